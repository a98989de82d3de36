//! Bars on a terminal that say how far a command is; nothing where nobody looks.

use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The bars of one command.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Shows bars if standard error is a terminal.
    pub(crate) fn on_terminal() -> Progress {
        Progress { bars: io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// Shows nothing.
    pub(crate) fn quiet() -> Progress {
        Progress { bars: None }
    }

    /// Adds a bar for `length` bytes, or for as many as there will be.
    pub(crate) fn bar(&self, what: &str, length: Option<u64>) -> Bar {
        let Some(bars) = &self.bars else { return Bar(None) };
        let (bar, template) = match length {
            Some(n) => (
                ProgressBar::new(n),
                "{prefix:16} [{bar:30}] {bytes:>10} / {total_bytes:10} {bytes_per_sec:>12} {wide_msg}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{prefix:16} {spinner} {bytes:>10} {bytes_per_sec:>12} {wide_msg}",
            ),
        };
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
        let bar = bars.add(bar.with_style(style).with_prefix(what.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(120));
        Bar(Some(bar))
    }
}

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Counts bytes.
    pub(crate) fn add(&self, n: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(n);
        }
    }

    /// Begins at a number of bytes.
    pub(crate) fn set(&self, n: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(n);
        }
    }

    /// Says at the end what became of it.
    pub(crate) fn done(&self, said: &str) {
        if let Some(bar) = &self.0 {
            bar.finish_with_message(said.to_owned());
        }
    }

    /// Counts the bytes of a stream.
    pub(crate) fn wrap<R: Read>(&self, from: R) -> Counted<R> {
        Counted { from, bar: self.clone() }
    }
}

/// A stream whose bytes a bar counts.
pub(crate) struct Counted<R> {
    from: R,
    bar: Bar,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.bar.add(n as u64);
        Ok(n)
    }
}
