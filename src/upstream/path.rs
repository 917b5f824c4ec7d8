//! What a path must look like before it is compared with anything.

/// Whether a path means the same to every parser behind: it starts with `/`, has no empty, `.` or `..` segment (nor one
/// that begins with `..;`), and consists of visible ASCII without `\`, `;`, `#`, `?`. A percent sign is followed by two
/// digits that stand for a visible character which has to be encoded; an encoded `.`, `/`, `\`, `%`, letter or digit is
/// another spelling of a path, and servers disagree about spellings.
#[must_use]
pub fn is_strict(path: &[u8]) -> bool {
    let Some(mut rest) = path.strip_prefix(b"/") else { return false };
    if rest.is_empty() {
        return false;
    }
    let mut segment = 0usize;
    let mut dots = 0usize;
    loop {
        match rest {
            [] => return segment > 0 && !(dots == segment && segment <= 2),
            [b'/', after @ ..] => {
                if segment == 0 || (dots == segment && segment <= 2) {
                    return false;
                }
                (segment, dots) = (0, 0);
                rest = after;
            }
            [b'%', high, low, after @ ..] => {
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return false };
                if !has_to_be_encoded(high << 4 | low) {
                    return false;
                }
                segment += 1;
                rest = after;
            }
            [b'%' | b'\\' | b';' | b'#' | b'?', ..] => return false,
            [byte @ 0x21..=0x7e, after @ ..] => {
                dots += usize::from(*byte == b'.');
                segment += 1;
                rest = after;
            }
            _ => return false,
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// RFC 3986, 2.3: the unreserved characters are the same resource encoded or not, so they are never sent encoded.
fn has_to_be_encoded(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !byte.is_ascii_alphanumeric()
        && !matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'%' | b';')
}
