//! Which threads wait for the kernel's messages: one, as long as one is enough.
//!
//! The kernel hands messages to waiting threads in turn. With several of them each message finds
//! another thread asleep, most often on another CPU, which costs many times what most messages do.
//! So only one thread waits, and the others rest until it may block ([`Turns::blocking`]), was seen
//! in the same message for a while, or has no pause between messages.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex};

use crate::idle::Idle;

/// How often the watch looks while there are messages. What blocks a thread unforeseen delays others
/// for twice this time at most.
const TICK: Duration = Duration::from_millis(2);
/// The same where answers are brief: a watch that wakes more often moves those whom it watches from one
/// CPU to another, which costs a tenth of their time.
const RARE_TICK: Duration = Duration::from_millis(20);
/// After so many looks that saw nothing happen the watch sleeps until the next message.
const QUIET_TICKS: u32 = 10;
/// After so many looks at a thread that works on one message another one helps.
const LONG: u32 = 5;
/// Looks after which the number of readers is thought over.
const WINDOW: u32 = 16;
/// Looks of a window that find messages waiting, from which on another reader helps. One client that
/// waits for each answer is seen with a message waiting in less than half of them.
const CROWDED: u32 = 14;
/// Looks up to which a reader is one too many.
const CALM: u32 = 9;

/// Turns of the threads of one session.
#[derive(Debug)]
pub struct Turns {
    slots: Box<[Slot]>,
    taken: AtomicUsize,
    /// Threads that wait for a message or answer one without blocking.
    readers: AtomicUsize,
    /// How many there should be.
    wanted: AtomicUsize,
    /// How many there should be at most, of those that don't block.
    most: usize,
    tick: Duration,
    rest: Mutex<Rest>,
    called: Condvar,
    calls: AtomicU64,
}

/// What one thread tells the watch; on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// Even between messages, odd in one.
    steps: AtomicU64,
    /// It isn't counted as a reader.
    is_blocked: AtomicBool,
    /// Its number as `/proc/self/task` has it.
    thread: AtomicI32,
}

impl Slot {
    /// Whether the thread sleeps, and isn't just waiting for a CPU: another one would have to wait for
    /// that as well.
    fn sleeps(&self) -> bool {
        let path = format!("/proc/self/task/{}/stat", self.thread.load(Ordering::Relaxed));
        // The state is the word after the name, which ends with the last parenthesis.
        std::fs::read_to_string(path).map_or(true, |text| {
            text.rsplit(')').next().is_none_or(|rest| !rest.trim_start().starts_with('R'))
        })
    }
}

#[derive(Debug, Default)]
struct Rest {
    resting: usize,
    /// Called, and not yet awake.
    calls: usize,
    is_over: bool,
}

thread_local! {
    /// The calling thread's slot; a process has one session.
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The answer to one message; ends when it is dropped, after the reply.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    slot: Option<&'a Slot>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        slot.steps.fetch_add(1, Ordering::Release);
        let turns = self.turns;
        let too_many = turns.readers.load(Ordering::Relaxed) > turns.wanted.load(Ordering::Relaxed);
        if too_many || slot.is_blocked.load(Ordering::Relaxed) {
            turns.settle(slot);
        }
    }
}

impl Turns {
    /// Makes turns for so many threads, at least one, all of which begin as readers. As many may read at
    /// once as messages wait for.
    pub fn new(threads: usize) -> Arc<Turns> {
        Turns::within(threads, threads, TICK)
    }

    /// As [`Turns::new`], for messages whose answer costs less than to hand them over, and hardly ever
    /// waits: no more than `most` threads, at least one, read at once, and the others only stand in for
    /// those that are blocked.
    pub fn for_brief_answers(threads: usize, most: usize) -> Arc<Turns> {
        Turns::within(threads, most, RARE_TICK)
    }

    fn within(threads: usize, most: usize, tick: Duration) -> Arc<Turns> {
        let threads = threads.max(1);
        Arc::new(Turns {
            most: most.clamp(1, threads),
            tick,
            slots: (0..threads).map(|_| Slot::default()).collect(),
            taken: AtomicUsize::new(0),
            readers: AtomicUsize::new(threads),
            wanted: AtomicUsize::new(1),
            rest: Mutex::default(),
            called: Condvar::new(),
            calls: AtomicU64::new(0),
        })
    }

    /// Returns how many threads there are.
    pub fn threads(&self) -> usize {
        self.slots.len()
    }

    /// Returns how many threads shall wait for messages at the moment, and how often one was called to
    /// help.
    pub fn readers_and_calls(&self) -> (usize, u64) {
        (self.wanted.load(Ordering::Relaxed), self.calls.load(Ordering::Relaxed))
    }

    /// Begins the answer to a message, one for all of it: the thread may rest when it is dropped.
    pub fn begin(&self) -> Turn<'_> {
        let slot = self.slot();
        if let Some(slot) = slot {
            slot.steps.fetch_add(1, Ordering::Release);
        }
        Turn { turns: self, slot }
    }

    /// The calling thread is about to wait for a disk or to work for long: another one takes the
    /// messages meanwhile. Of no effect outside a turn.
    pub fn blocking(&self) {
        if let Some(slot) = OWN.get().and_then(|i| self.slots.get(i)) {
            self.block(slot);
        }
    }

    fn slot(&self) -> Option<&Slot> {
        let own = OWN.get().unwrap_or_else(|| {
            let next = self.taken.fetch_add(1, Ordering::Relaxed);
            OWN.set(Some(next));
            if let Some(slot) = self.slots.get(next) {
                slot.thread.store(nix::unistd::gettid().as_raw(), Ordering::Relaxed);
            }
            next
        });
        self.slots.get(own)
    }

    fn block(&self, slot: &Slot) {
        let mut rest = self.rest.lock();
        if !slot.is_blocked.swap(true, Ordering::Relaxed) {
            let left = self.readers.fetch_sub(1, Ordering::Relaxed) - 1;
            if left < self.wanted.load(Ordering::Relaxed) {
                self.call(&mut rest);
            }
        }
    }

    /// Wakes a thread, which counts as a reader from now on.
    fn call(&self, rest: &mut Rest) {
        if rest.resting > rest.calls {
            rest.calls += 1;
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.readers.fetch_add(1, Ordering::Relaxed);
            self.called.notify_one();
        }
    }

    /// After a message: counts a thread that was blocked as a reader again, and lets it rest if it is
    /// one too many.
    #[cold]
    fn settle(&self, slot: &Slot) {
        let mut rest = self.rest.lock();
        if slot.is_blocked.swap(false, Ordering::Relaxed) {
            self.readers.fetch_add(1, Ordering::Relaxed);
        }
        let wanted = self.wanted.load(Ordering::Relaxed);
        if rest.is_over || self.readers.load(Ordering::Relaxed) <= wanted {
            return;
        }
        self.readers.fetch_sub(1, Ordering::Relaxed);
        rest.resting += 1;
        while rest.calls == 0 && !rest.is_over {
            self.called.wait(&mut rest);
        }
        rest.calls = rest.calls.saturating_sub(1);
        rest.resting -= 1;
    }

    /// Wakes all threads for good: they shall find that the connection is gone.
    fn end(&self) {
        self.rest.lock().is_over = true;
        self.called.notify_all();
    }

    /// Watches the threads of a session until its connection is gone.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn watch(self: &Arc<Turns>, device: OwnedFd) -> io::Result<()> {
        if self.threads() == 1 {
            return Ok(());
        }
        let turns = Arc::clone(self);
        let watch = move || {
            let mut watch =
                Watch { turns: &turns, device, seen: vec![Seen::default(); turns.threads()] };
            while watch.until_quiet() && watch.asleep() {}
            turns.end();
        };
        std::thread::Builder::new().name("turns".into()).spawn(watch).map(drop)
    }

    fn change_wanted(&self, crowded: u32) {
        let wanted = self.wanted.load(Ordering::Relaxed);
        if crowded >= CROWDED && wanted < self.most {
            let mut rest = self.rest.lock();
            self.wanted.store(wanted + 1, Ordering::Relaxed);
            self.call(&mut rest);
        } else if crowded <= CALM && wanted > 1 {
            self.wanted.store(wanted - 1, Ordering::Relaxed);
        }
    }
}

/// The watch's own state.
struct Watch<'a> {
    turns: &'a Turns,
    device: OwnedFd,
    /// The threads at the last look.
    seen: Vec<Seen>,
}

/// A thread's steps, and at how many looks they were the same.
#[derive(Clone, Copy, Default)]
struct Seen {
    steps: u64,
    looks: u32,
}

/// What the device said.
#[derive(PartialEq)]
enum Device {
    Waiting,
    Nothing,
    Gone,
}

impl Watch<'_> {
    /// Looks at each tick until nothing happens any more; returns whether the connection is there.
    fn until_quiet(&mut self) -> bool {
        let mut quiet = 0;
        let mut crowded = 0;
        for tick in 1u32.. {
            std::thread::sleep(self.turns.tick);
            match self.ask(PollTimeout::ZERO) {
                Device::Gone => return false,
                Device::Waiting => crowded += 1,
                Device::Nothing => {}
            }
            quiet = if self.look() { 0 } else { quiet + 1 };
            if quiet == QUIET_TICKS {
                self.turns.change_wanted(0);
                return true;
            }
            if tick % WINDOW == 0 {
                self.turns.change_wanted(std::mem::take(&mut crowded));
            }
        }
        true
    }

    /// Counts threads that sleep in the same message as at the last look, or work on it for long, as
    /// blocked; returns whether anything happened since.
    fn look(&mut self) -> bool {
        let mut is_busy = false;
        for (slot, seen) in self.turns.slots.iter().zip(&mut self.seen) {
            let steps = slot.steps.load(Ordering::Acquire);
            let is_inside = steps % 2 == 1;
            let changed = steps != seen.steps;
            *seen = Seen { steps, looks: if changed { 0 } else { seen.looks + 1 } };
            is_busy |= is_inside || changed;
            let is_known = slot.is_blocked.load(Ordering::Relaxed);
            if is_inside && !changed && !is_known && (seen.looks >= LONG || slot.sleeps()) {
                self.turns.block(slot);
            }
        }
        is_busy
    }

    /// Sleeps until a message comes; returns whether the connection is there.
    fn asleep(&self) -> bool {
        let mut idle = Idle::default();
        loop {
            let patience = idle.patience().and_then(|p| PollTimeout::try_from(p).ok());
            match self.ask(patience.unwrap_or(PollTimeout::NONE)) {
                Device::Gone => return false,
                Device::Waiting => return true,
                Device::Nothing => idle.begin(),
            }
        }
    }

    fn ask(&self, timeout: PollTimeout) -> Device {
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Device::Nothing,
            Err(_) => return Device::Gone,
        }
        match fds.first().and_then(PollFd::revents) {
            Some(f) if f.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL) => Device::Gone,
            Some(f) if f.contains(PollFlags::POLLIN) => Device::Waiting,
            _ => Device::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::JoinHandle;

    use super::*;

    /// Messages whose answer is to send something, after blocking or not.
    type Message = (bool, Option<Receiver<()>>, Sender<()>);

    fn serve(turns: &Arc<Turns>) -> (Sender<Message>, Vec<JoinHandle<()>>) {
        let (send, receive) = channel::<Message>();
        let kernel = Arc::new(Mutex::new(receive));
        let thread = |_| {
            let (turns, kernel) = (Arc::clone(turns), Arc::clone(&kernel));
            std::thread::spawn(move || {
                loop {
                    let next = kernel.lock().recv();
                    let Ok((blocks, wait, done)) = next else { return };
                    let _turn = turns.begin();
                    if blocks {
                        turns.blocking();
                    }
                    if let Some(wait) = wait {
                        wait.recv().unwrap();
                    }
                    done.send(()).unwrap();
                }
            })
        };
        (send, (0..turns.threads()).map(thread).collect())
    }

    fn ask(send: &Sender<Message>) {
        let (done, is_done) = channel();
        send.send((false, None, done)).unwrap();
        is_done.recv().unwrap();
    }

    fn resting(turns: &Turns) -> usize {
        turns.rest.lock().resting
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let start = std::time::Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_thread_is_enough_for_messages_that_come_one_by_one() {
        let turns = Turns::new(4);
        let (send, threads) = serve(&turns);
        for _ in 0..4 {
            ask(&send);
        }
        until("three rest", || resting(&turns) == 3);
        for _ in 0..100 {
            ask(&send);
        }
        assert_eq!((resting(&turns), turns.readers_and_calls()), (3, (1, 0)));
        drop(send);
        turns.end();
        threads.into_iter().for_each(|t| t.join().unwrap());
    }

    #[test]
    fn a_thread_that_blocks_is_replaced_and_rests_afterwards() {
        let turns = Turns::new(3);
        let (send, threads) = serve(&turns);
        (0..3).for_each(|_| ask(&send));
        until("two rest", || resting(&turns) == 2);
        let (go_on, wait) = channel();
        let (done, is_done) = channel();
        send.send((true, Some(wait), done)).unwrap();
        (0..10).for_each(|_| ask(&send));
        assert_eq!(resting(&turns), 1);
        go_on.send(()).unwrap();
        is_done.recv().unwrap();
        until("it rests", || resting(&turns) == 2);
        ask(&send);
        drop(send);
        turns.end();
        threads.into_iter().for_each(|t| t.join().unwrap());
    }

    #[test]
    fn more_read_while_messages_wait() {
        let turns = Turns::new(2);
        turns.change_wanted(CROWDED);
        assert_eq!(turns.readers_and_calls().0, 2);
        turns.change_wanted(CROWDED);
        assert_eq!(turns.readers_and_calls().0, 2, "there are no more");
        turns.change_wanted(CALM + 1);
        assert_eq!(turns.readers_and_calls().0, 2);
        turns.change_wanted(CALM);
        assert_eq!(turns.readers_and_calls().0, 1);
    }

    #[test]
    fn no_more_read_than_may_and_one_that_blocks_is_replaced_all_the_same() {
        let turns = Turns::for_brief_answers(2, 1);
        let (send, threads) = serve(&turns);
        (0..2).for_each(|_| ask(&send));
        until("one rests", || resting(&turns) == 1);
        (0..3).for_each(|_| turns.change_wanted(WINDOW));
        assert_eq!((resting(&turns), turns.readers_and_calls()), (1, (1, 0)));
        let (go_on, wait) = channel();
        let (done, is_done) = channel();
        send.send((true, Some(wait), done)).unwrap();
        (0..10).for_each(|_| ask(&send));
        go_on.send(()).unwrap();
        is_done.recv().unwrap();
        assert_eq!(turns.readers_and_calls(), (1, 1));
        drop(send);
        turns.end();
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
}
