//! Other readings of a text, and how far they went.

use std::fmt;
use std::ops::BitOrAssign;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// A reading of a text beside the text as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Base64, base32, hexadecimal, binary, percent, entities, escapes, quoted-printable.
    Encoded,
    /// Letters with something between them.
    LettersApart,
    /// Digits in the place of letters.
    Leetspeak,
    WordPerLine,
    Reversed,
    Rot13,
    /// The alphabet shifted by another number.
    Caesar,
    Morse,
    /// Letters inside of words in another order.
    Spelling,
    /// The words from the last to the first.
    WordOrder,
    /// Texts in pieces that code puts together, comments inside of words.
    Pieces,
    /// Invisible and look-alike characters as what they stand for.
    Normalised,
    /// The end of a text with the beginning of the next.
    Joined,
}

const ALL: [View; 13] = [
    View::Encoded,
    View::LettersApart,
    View::Leetspeak,
    View::WordPerLine,
    View::Reversed,
    View::Rot13,
    View::Caesar,
    View::Morse,
    View::Spelling,
    View::WordOrder,
    View::Pieces,
    View::Normalised,
    View::Joined,
];

impl View {
    /// A bit of its own.
    #[must_use]
    pub const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// Its name, which never changes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encoded => "encoded",
            Self::LettersApart => "letters_apart",
            Self::Leetspeak => "leetspeak",
            Self::WordPerLine => "word_per_line",
            Self::Reversed => "reversed",
            Self::Rot13 => "rot13",
            Self::Caesar => "caesar",
            Self::Morse => "morse",
            Self::Spelling => "spelling",
            Self::WordOrder => "word_order",
            Self::Pieces => "pieces",
            Self::Normalised => "normalised",
            Self::Joined => "joined",
        }
    }
}

/// Why a reading ended before the text did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ViewStop {
    /// All readings of a piece of text may hold twice its size.
    Size,
    /// What was found inside of it may be read again, deeper than is read.
    Depth,
}

/// A reading as the receipt shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ViewRead {
    pub view: View,
    /// Null when all of it was read.
    pub stopped: Option<ViewStop>,
}

/// The readings of a body; a list of [`ViewRead`] in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// Bits of the readings that there were, that ended for their size, and for their depth.
    read: u16,
    size: u16,
    depth: u16,
}

impl Views {
    pub fn read(&mut self, view: View) {
        self.read |= view.bit();
    }

    pub fn stopped(&mut self, view: View, stop: ViewStop) {
        self.read(view);
        match stop {
            ViewStop::Size => self.size |= view.bit(),
            ViewStop::Depth => self.depth |= view.bit(),
        }
    }

    pub fn iter(self) -> impl Iterator<Item = ViewRead> {
        ALL.into_iter().filter(move |view| self.read & view.bit() != 0).map(move |view| {
            let stopped = match view.bit() {
                bit if self.size & bit != 0 => Some(ViewStop::Size),
                bit if self.depth & bit != 0 => Some(ViewStop::Depth),
                _ => None,
            };
            ViewRead { view, stopped }
        })
    }
}

impl BitOrAssign for Views {
    fn bitor_assign(&mut self, other: Self) {
        self.read |= other.read;
        self.size |= other.size;
        self.depth |= other.depth;
    }
}

/// Three numbers where nobody reads it.
impl Serialize for Views {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_seq(self.iter())
        } else {
            (self.read, self.size, self.depth).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Views {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_seq(List)
        } else {
            let (read, size, depth) = Deserialize::deserialize(deserializer)?;
            Ok(Self { read, size, depth })
        }
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Views;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of readings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Views, A::Error> {
        let mut views = Views::default();
        while let Some(ViewRead { view, stopped }) = list.next_element()? {
            match stopped {
                Some(stop) => views.stopped(view, stop),
                None => views.read(view),
            }
        }
        Ok(views)
    }
}

/// In JSON a field like others. By position nothing at all: the journal keeps it behind the entry, so that entries from before
/// there were readings stay as they are.
pub mod beside {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Views};

    pub fn serialize<S: Serializer>(views: &Views, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { views.serialize(serializer) } else { serializer.serialize_unit() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Views, D::Error> {
        if deserializer.is_human_readable() {
            Views::deserialize(deserializer)
        } else {
            <()>::deserialize(deserializer)?;
            Ok(Views::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_has_one_name() {
        for view in ALL {
            assert_eq!(serde_json::to_value(view).unwrap(), view.as_str());
        }
    }
}
