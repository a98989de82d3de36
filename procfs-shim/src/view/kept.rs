//! What was made for a container a moment ago: readers that come together cost its files one reading.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::host::Moment;

/// A file's content as it was made.
#[derive(Clone, Debug)]
pub struct Text {
    /// The content.
    pub bytes: Arc<[u8]>,
    /// Whether it is the machine's, as the container's could not be made.
    pub is_stand_in: bool,
}

/// The contents of one container's files, by numbers that the caller gives them.
#[derive(Debug, Default)]
pub struct Texts(Mutex<Vec<Option<(Moment, Text)>>>);

impl Texts {
    /// Returns a content that was made a moment ago.
    pub fn get(&self, number: usize, now: Moment) -> Option<Text> {
        let texts = self.0.lock();
        let (at, text) = texts.get(number)?.as_ref()?;
        now.is_soon_after(*at).then(|| text.clone())
    }

    /// Keeps a content that was begun at `began`, unless a newer one is there: of two that are made at
    /// once, later readers must not be given the older one, as counters would run backwards.
    pub fn put(&self, number: usize, began: Moment, text: Text) {
        let mut texts = self.0.lock();
        if texts.len() <= number {
            texts.resize_with(number + 1, || None);
        }
        if let Some(slot) = texts.get_mut(number)
            && slot.as_ref().is_none_or(|(at, _)| *at <= began)
        {
            *slot = Some((began, text));
        }
    }

    /// Lets go of what is too old to be given to anybody.
    pub fn tidy(&self, now: Moment) {
        let mut texts = self.0.lock();
        let is_old = |slot: &Option<(Moment, Text)>| {
            slot.as_ref().is_some_and(|(at, _)| !now.is_soon_after(*at))
        };
        texts.iter_mut().filter(|slot| is_old(slot)).for_each(|slot| *slot = None);
        if texts.iter().all(Option::is_none) {
            *texts = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Text {
        Text { bytes: bytes.into(), is_stand_in: false }
    }

    #[test]
    fn a_text_is_given_again_for_a_moment() {
        let texts = Texts::default();
        let at = Moment(1_000_000_000);
        texts.put(3, at, text(b"one"));
        assert_eq!(*texts.get(3, at).unwrap().bytes, *b"one");
        assert!(texts.get(2, at).is_none());
        let later = Moment(at.0 + 1_000_000_000);
        assert!(texts.get(3, later).is_none());
        texts.tidy(later);
        assert!(texts.get(3, at).is_none());
    }

    #[test]
    fn an_older_text_never_takes_the_place_of_a_newer_one() {
        let texts = Texts::default();
        texts.put(0, Moment(20), text(b"new"));
        texts.put(0, Moment(10), text(b"old"));
        assert_eq!(*texts.get(0, Moment(21)).unwrap().bytes, *b"new");
    }
}
