use std::fmt;
use std::str;

use bytes::Bytes;
use thiserror::Error;

use super::What;

/// The version of the handshake that this crate implements.
pub(crate) const VERSION: u16 = 1;

/// The largest hello, in bytes: 256.
pub(crate) const MAX_HELLO: usize = 256;

/// The longest name in a hello, in bytes: 64.
pub(crate) const MAX_NAME: usize = 64;

/// The beginning of every hello and verdict; the version follows.
const MAGIC: &[u8] = b"aqueduct/";

/// What one side says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    version: u16,
    /// Unknown if the version is not ours.
    body: Option<Body>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Body {
    codec: String,
    max_frame: u32,
    messages: String,
}

impl Hello {
    /// Creates a hello of this [`VERSION`].
    ///
    /// A `max_frame` of more than 4 GiB - 1 counts as that, 0 as 1.
    ///
    /// # Errors
    ///
    /// [`ParseError::Name`] if a name is empty, longer than [`MAX_NAME`], or has a byte that is not
    /// printable ASCII or is a space.
    pub(crate) fn new(codec: &str, max_frame: usize, messages: &str) -> Result<Self, ParseError> {
        let body = Body {
            codec: name(codec.as_bytes(), What::Codec)?,
            max_frame: u32::try_from(max_frame).unwrap_or(u32::MAX).max(1),
            messages: name(messages.as_bytes(), What::Messages)?,
        };
        Ok(Self {
            version: VERSION,
            body: Some(body),
        })
    }

    /// Parses a hello.
    ///
    /// Of another version only the version is read. Nothing is allocated beyond the two names, and
    /// nothing at all for input of more than [`MAX_HELLO`] bytes.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] that says what is wrong. It never panics.
    pub(crate) fn parse(frame: &[u8]) -> Result<Self, ParseError> {
        let (version, rest) = prefix(frame)?;
        if version != VERSION {
            return Ok(Self {
                version,
                body: None,
            });
        }
        let mut fields = rest.split(|byte| *byte == b' ');
        let mut field = || fields.next().ok_or(ParseError::Fields);
        let body = Body {
            codec: name(field()?, What::Codec)?,
            max_frame: number(field()?).ok_or(ParseError::MaxFrame)?,
            messages: name(field()?, What::Messages)?,
        };
        match fields.next() {
            None => Ok(Self {
                version,
                body: Some(body),
            }),
            Some(_) => Err(ParseError::Fields),
        }
    }

    /// The name of the codec; `None` for another version.
    pub(crate) fn codec(&self) -> Option<&str> {
        Some(&self.body.as_ref()?.codec)
    }

    /// The largest frame, in bytes; `None` for another version.
    pub(crate) fn max_frame(&self) -> Option<usize> {
        // A frame larger than the address space is impossible anyway.
        Some(usize::try_from(self.body.as_ref()?.max_frame).unwrap_or(usize::MAX))
    }

    /// The name of the messages; `None` for another version.
    pub(crate) fn messages(&self) -> Option<&str> {
        Some(&self.body.as_ref()?.messages)
    }

    /// Our verdict on another side's hello.
    pub(crate) fn judge(&self, theirs: &Self) -> Verdict {
        if self.version != theirs.version {
            Verdict::No(What::Version)
        } else if self.codec() != theirs.codec() {
            Verdict::No(What::Codec)
        } else if self.messages() != theirs.messages() {
            Verdict::No(What::Messages)
        } else {
            Verdict::Ok
        }
    }

    /// The value that a verdict is about, for people.
    pub(super) fn value(&self, what: What) -> String {
        let value = match what {
            What::Version => return self.version.to_string(),
            What::Codec => self.codec(),
            What::Messages => self.messages(),
        };
        value.unwrap_or("(unknown)").to_owned()
    }

    pub(super) fn to_frame(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

/// Prints the frame.
impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aqueduct/{}", self.version)?;
        match &self.body {
            Some(body) => write!(f, " {} {} {}", body.codec, body.max_frame, body.messages),
            None => Ok(()),
        }
    }
}

/// The verdict of one side on the other's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The sides understand each other.
    Ok,
    /// They do not, because of this property.
    No(What),
}

impl Verdict {
    /// Parses a verdict of any version.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] that says what is wrong. It never panics.
    pub(crate) fn parse(frame: &[u8]) -> Result<Self, ParseError> {
        let (_, rest) = prefix(frame)?;
        match rest {
            b"ok" => Ok(Self::Ok),
            b"no version" => Ok(Self::No(What::Version)),
            b"no codec" => Ok(Self::No(What::Codec)),
            b"no messages" => Ok(Self::No(What::Messages)),
            _ => Err(ParseError::Verdict),
        }
    }

    pub(super) fn to_frame(self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

/// Prints the frame.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aqueduct/{VERSION} ")?;
        match self {
            Self::Ok => write!(f, "ok"),
            Self::No(what) => write!(f, "no {}", what.word()),
        }
    }
}

/// Why a frame is not a hello or verdict, or a hello cannot be created.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum ParseError {
    /// It does not begin with `aqueduct/`.
    #[error("it does not begin with \"aqueduct/\"")]
    Magic,
    /// There is no version from 1 to 65535 with a space after it.
    #[error("no version follows \"aqueduct/\"")]
    Version,
    /// It has more than [`MAX_HELLO`] bytes.
    #[error("its {len} bytes are over the limit of {MAX_HELLO}")]
    TooLong {
        /// How many it has.
        len: usize,
    },
    /// It has too many or too few fields.
    #[error("it does not have the four fields of a hello")]
    Fields,
    /// The largest frame is not a number from 1 to 4294967295.
    #[error("the largest frame is not a number from 1 to 4294967295")]
    MaxFrame,
    /// The name of the codec or of the messages is not valid.
    #[error("the name of the {} is not 1 to {MAX_NAME} bytes of printable ASCII without space", .0.word())]
    Name(What),
    /// It is neither `ok` nor a `no` with a known reason.
    #[error("it is not a verdict")]
    Verdict,
}

/// The bytes after the magic, the version and a space.
fn prefix(frame: &[u8]) -> Result<(u16, &[u8]), ParseError> {
    if frame.len() > MAX_HELLO {
        return Err(ParseError::TooLong { len: frame.len() });
    }
    let rest = frame.strip_prefix(MAGIC).ok_or(ParseError::Magic)?;
    // A hello of a later version may end here.
    let end = rest.iter().position(|byte| *byte == b' ');
    let (version, rest) = match end {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (rest, &[][..]),
    };
    let version = number(version).ok_or(ParseError::Version)?;
    let version = u16::try_from(version).map_err(|_| ParseError::Version)?;
    Ok((version, rest))
}

/// A number of at least 1: digits without a sign or leading zeros.
fn number(digits: &[u8]) -> Option<u32> {
    if !digits.first()?.is_ascii_digit() || digits[0] == b'0' {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn name(bytes: &[u8], what: What) -> Result<String, ParseError> {
    let printable = bytes.iter().all(u8::is_ascii_graphic);
    match str::from_utf8(bytes) {
        Ok(name) if printable && (1..=MAX_NAME).contains(&name.len()) => Ok(name.to_owned()),
        _ => Err(ParseError::Name(what)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            codec in "[!-~]{1,64}",
            max_frame in 1_u32..,
            messages in "[!-~]{1,64}",
        ) {
            let hello = Hello::new(&codec, max_frame as usize, &messages).unwrap();
            let frame = hello.to_frame();
            prop_assert!(frame.len() <= MAX_HELLO);
            prop_assert!(frame.iter().all(|byte| (b' '..=b'~').contains(byte)));
            prop_assert_eq!(Hello::parse(&frame), Ok(hello));
        }

        #[test]
        fn no_input_panics_and_what_is_read_is_printed_the_same(
            frame in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = Hello::parse(&frame);
            let _ = Verdict::parse(&frame);
        }

        #[test]
        fn what_is_almost_a_hello_is_read_as_it_stands_or_not_at_all(
            frame in "aqueduct/[0-9]{1,2}( |  )[a-z]{0,3} [0-9+-]{0,11} [ -~]{0,70}",
        ) {
            if let Ok(hello) = Hello::parse(frame.as_bytes()) && hello.body.is_some() {
                prop_assert_eq!(hello.to_string(), frame);
            }
        }
    }

    #[test]
    fn a_hello_is_printed_as_it_is_sent() {
        for hello in ["aqueduct/1 text 1048576 chat/2", "aqueduct/7"] {
            let parsed = Hello::parse(hello.as_bytes()).unwrap();
            assert_eq!(parsed.to_string(), hello);
        }
    }

    #[test]
    fn every_fault_has_its_name() {
        let long = [b'x'; MAX_HELLO + 1];
        let name65 = format!("aqueduct/1 json 1 {}", "x".repeat(MAX_NAME + 1));
        for (frame, error) in [
            (&b""[..], ParseError::Magic),
            (b"GET / HTTP/1.1", ParseError::Magic),
            (b"aqueduct/", ParseError::Version),
            (b"aqueduct/0 json 1 x", ParseError::Version),
            (b"aqueduct/01 json 1 x", ParseError::Version),
            (b"aqueduct/65536 json 1 x", ParseError::Version),
            (b"aqueduct/+1 json 1 x", ParseError::Version),
            (b"aqueduct/1", ParseError::Name(What::Codec)),
            (b"aqueduct/1 json", ParseError::Fields),
            (b"aqueduct/1 json 1", ParseError::Fields),
            (b"aqueduct/1 json 1 x y", ParseError::Fields),
            (b"aqueduct/1 json 0 x", ParseError::MaxFrame),
            (b"aqueduct/1 json 4294967296 x", ParseError::MaxFrame),
            (b"aqueduct/1 js\xffn 1 x", ParseError::Name(What::Codec)),
            (name65.as_bytes(), ParseError::Name(What::Messages)),
            (&long, ParseError::TooLong { len: MAX_HELLO + 1 }),
        ] {
            let text = String::from_utf8_lossy(frame);
            assert_eq!(Hello::parse(frame), Err(error), "{text}");
        }
    }

    #[test]
    fn only_version_and_verdict_of_another_version_are_read() {
        let later = Hello::parse(b"aqueduct/2 and something \xff quite new").unwrap();
        assert_eq!((later.version, later.codec()), (2, None));
        let ours = Hello::new("json", 1, "x").unwrap();
        assert_eq!(ours.judge(&later), Verdict::No(What::Version));
        assert_eq!(
            Verdict::parse(b"aqueduct/2 no version"),
            Ok(Verdict::No(What::Version))
        );
    }

    #[test]
    fn verdicts_are_read_as_they_are_printed() {
        for verdict in [
            Verdict::Ok,
            Verdict::No(What::Version),
            Verdict::No(What::Codec),
            Verdict::No(What::Messages),
        ] {
            assert_eq!(Verdict::parse(&verdict.to_frame()), Ok(verdict));
        }
        assert_eq!(Verdict::parse(b"aqueduct/1 no"), Err(ParseError::Verdict));
    }

    #[test]
    fn the_example_in_the_documentation_is_right() {
        assert_eq!(
            Hello::new("json", 1_048_576, "chat/2")
                .unwrap()
                .to_frame()
                .len(),
            0x1e
        );
    }
}
