//! Carries bytes between a container's program and those who talk to it: the user at the command, the
//! log, and followers.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};

use crate::error::{Context, Error, Result, best_effort, warn};
use crate::launch::clients::{Clients, Frame};
use crate::launch::log::{Log, Stream};
use crate::launch::terminal::RawMode;
use crate::spec::Stdin;

/// What is carried at once.
const CHUNK: usize = 16384;
/// Ctrl-D: what says "end of input" on a terminal.
const END_OF_INPUT: u8 = 4;

/// Our ends of the program's streams.
#[derive(Debug, Default)]
struct Ends {
    /// A terminal: all three in one.
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Whether there may be more input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
}

/// Whether our own streams are the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// They are.
    Here,
    /// Nobody is at the command.
    Away,
}

/// The streams of one program.
pub(super) struct Streams {
    ends: Ends,
    /// Whether nobody has the program's end of the terminal open.
    hung: bool,
    /// To be read by the program, not yet taken.
    pending: Vec<u8>,
    /// Whether the program's input ends behind what is pending.
    closing: bool,
    user: User,
    /// Whether our own standard input is carried.
    input: Input,
    raw: Option<RawMode>,
    log: Option<Log>,
    clients: Option<Clients>,
}

impl Streams {
    /// Returns streams that lead nowhere yet.
    pub(super) fn new(user: User) -> Streams {
        Streams {
            ends: Ends::default(),
            hung: false,
            pending: Vec::new(),
            closing: false,
            user,
            input: Input::Ended,
            raw: None,
            log: None,
            clients: None,
        }
    }

    /// Lets others follow, by a socket in the container's directory.
    pub(super) fn follow(&mut self, dir: &Path) -> Result<()> {
        self.clients = Some(Clients::of(dir)?);
        Ok(())
    }

    /// Keeps what is written in a file.
    pub(super) fn log_to(&mut self, path: &Path) -> Result<()> {
        self.log = Some(Log::open(path)?);
        Ok(())
    }

    /// Makes pipes, and returns the program's ends: standard input if it is to be ours, then output and
    /// error.
    pub(super) fn pipes(&mut self, stdin: Stdin) -> Result<Vec<OwnedFd>> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).step("make a pipe");
        let mut theirs = Vec::new();
        if stdin == Stdin::Inherited && self.user == User::Away {
            let (read, write) = pipe()?;
            nonblocking(&write)?;
            self.ends.stdin = Some(write);
            theirs.push(read);
        }
        for ours in [&mut self.ends.stdout, &mut self.ends.stderr] {
            let (read, write) = pipe()?;
            nonblocking(&read)?;
            *ours = Some(read);
            theirs.push(write);
        }
        Ok(theirs)
    }

    /// Takes the container's terminal. Where the user sits at one, every key is the container's from
    /// here on.
    pub(super) fn terminal(&mut self, master: OwnedFd, stdin: Stdin) -> Result<()> {
        nonblocking(&master)?;
        if self.user == User::Here && stdin == Stdin::Inherited {
            self.input = Input::Open;
            if std::io::stdin().is_terminal() {
                self.raw = Some(RawMode::enter()?);
            }
        }
        self.ends.terminal = Some(master);
        self.resize();
        Ok(())
    }

    /// Whether the container has a terminal of its own here.
    pub(super) fn has_terminal(&self) -> bool {
        self.ends.terminal.is_some()
    }

    /// Gives the container's terminal the size of the user's.
    pub(super) fn resize(&self) {
        if self.user == User::Here {
            let user = sys::tty::size(std::io::stdout());
            // Without a terminal there is no size.
            if let Ok(size) = user.or_else(|_| sys::tty::size(std::io::stdin())) {
                self.set_size(size);
            }
        }
    }

    fn set_size(&self, size: sys::tty::Size) {
        if let Some(master) = &self.ends.terminal {
            best_effort("set the terminal's size", sys::tty::set_size(master, size));
        }
    }

    /// Returns what to wait for.
    pub(super) fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut fds = self.clients.as_ref().map(Clients::poll_fds).unwrap_or_default();
        let hears = !self.clients.as_ref().is_some_and(Clients::is_behind);
        let output = if hears { PollFlags::POLLIN } else { PollFlags::empty() };
        let input = match self.pending.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::POLLOUT,
        };
        if let Some(master) = &self.ends.terminal
            && !self.hung
        {
            fds.push(PollFd::new(master.as_fd(), output | input));
        }
        if hears {
            let pipes = [&self.ends.stdout, &self.ends.stderr];
            fds.extend(pipes.into_iter().flatten().map(|fd| PollFd::new(fd.as_fd(), output)));
        }
        if let Some(stdin) = &self.ends.stdin
            && !self.pending.is_empty()
        {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        if self.input == Input::Open && self.pending.is_empty() {
            fds.push(PollFd::new(stdin_fd(), PollFlags::POLLIN));
        }
        fds
    }

    /// Returns how long to wait at most, `None`: for ever. That somebody opens the terminal again is not told.
    pub(super) fn patience(&self) -> Option<PollTimeout> {
        self.hung.then(|| PollTimeout::from(100u8))
    }

    /// Carries what there is, in both directions.
    pub(super) fn carry(&mut self) -> Result<()> {
        let frames = self.clients.as_mut().map(Clients::carry).unwrap_or_default();
        for frame in frames {
            self.obey(frame);
        }
        self.output()?;
        if self.input == Input::Open && self.pending.is_empty() && has_input() {
            self.take_input()?;
        }
        self.give_input();
        Ok(())
    }

    /// Does what a follower asks.
    fn obey(&mut self, frame: Frame) {
        match frame {
            Frame::Input(bytes) => self.pending.extend_from_slice(&bytes),
            Frame::EndOfInput => self.end_of_input(),
            Frame::Size(rows, columns) => self.set_size(sys::tty::Size { rows, columns }),
            Frame::Follow | Frame::Output(..) | Frame::Ended(_) => {}
        }
    }

    fn end_of_input(&mut self) {
        match self.ends.terminal {
            Some(_) => self.pending.push(END_OF_INPUT),
            None => self.closing = true,
        }
    }

    fn take_input(&mut self) -> Result<()> {
        let mut buf = [0u8; CHUNK];
        match read(stdin_fd(), &mut buf) {
            Ok(0) | Err(Errno::EIO) => {
                self.input = Input::Ended;
                self.end_of_input();
            }
            Ok(n) => self.pending.extend_from_slice(buf.get(..n).unwrap_or_default()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(e) => return Err(e).step("read standard input"),
        }
        Ok(())
    }

    fn give_input(&mut self) {
        let Some(end) = self.ends.terminal.as_ref().or(self.ends.stdin.as_ref()) else {
            self.pending.clear();
            return;
        };
        while !self.pending.is_empty() {
            match write(end, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // The program has closed its input.
                Err(_) => {
                    self.input = Input::Ended;
                    self.pending.clear();
                }
            }
        }
        if self.closing {
            self.ends.stdin = None;
        }
    }

    /// Carries the rest of the output, and puts the user's terminal back.
    pub(super) fn finish(&mut self) {
        best_effort("carry the program's output", self.output());
        self.raw = None;
    }

    /// Tells followers how it ended.
    pub(super) fn end(&mut self, code: u8) {
        if let Some(clients) = self.clients.take() {
            clients.end(code);
        }
    }

    fn output(&mut self) -> Result<()> {
        let mut ends = std::mem::take(&mut self.ends);
        let mut carried = Ok(());
        if let Some(fd) = &ends.terminal {
            self.hung = self.drain(fd, Stream::Out, &mut carried) == Input::Ended;
        }
        for (end, stream) in [(&mut ends.stdout, Stream::Out), (&mut ends.stderr, Stream::Err)] {
            if let Some(fd) = end
                && self.drain(fd, stream, &mut carried) == Input::Ended
            {
                *end = None;
            }
        }
        self.ends = ends;
        carried
    }

    /// Reads what is there; says whether there may be more later.
    fn drain(&mut self, fd: &OwnedFd, stream: Stream, carried: &mut Result<()>) -> Input {
        let mut buf = [0u8; CHUNK];
        while !self.clients.as_ref().is_some_and(Clients::is_behind) {
            match read(fd, &mut buf) {
                Ok(0) => return Input::Ended,
                Ok(n) => {
                    let told = self.tell(stream, buf.get(..n).unwrap_or_default());
                    if let (Ok(()), Err(e)) = (&*carried, told) {
                        *carried = Err(e);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Input::Open,
                Err(_) => return Input::Ended,
            }
        }
        Input::Open
    }

    fn tell(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        if let Some(log) = &mut self.log
            && let Err(e) = log.add(stream, bytes)
        {
            warn(Error::new("write the container's log", e));
            self.log = None;
        }
        if let Some(clients) = &mut self.clients {
            clients.output(stream, bytes);
        }
        if self.user == User::Away {
            return Ok(());
        }
        show(stream, bytes).step("write output")
    }
}

/// Writes to our own standard output or error.
pub(super) fn show(stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
    match stream {
        Stream::Out => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        Stream::Err => std::io::stderr().lock().write_all(bytes),
    }
}

/// Our standard input, which lives as long as the process.
pub(super) fn stdin_fd() -> BorrowedFd<'static> {
    static STDIN: OnceLock<std::io::Stdin> = OnceLock::new();
    STDIN.get_or_init(std::io::stdin).as_fd()
}

/// Whether a read of standard input would not wait.
fn has_input() -> bool {
    let mut fds = [PollFd::new(stdin_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).step("use a stream")?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).step("use a stream").map(drop)
}
