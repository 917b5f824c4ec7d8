//! `Content-Encoding`, undone within bounds.
//!
//! A bomb is never built: output is produced in small steps and counted at each. What a lenient decoder would shrug off
//! (bytes after the end, a missing end, a wrong checksum) is refused, because the upstream might shrug it off
//! differently.

use std::io::Read;

use brotli::reader::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::{ReadLimits, Unreadable};

/// Codings in one list. Real clients send one; each further one multiplies the work that a small body can cause.
const MAX_CODINGS: usize = 3;

/// Below this many decoded bytes the ratio is not asked for: a small body of repeated text packs very well.
const RATIO_FLOOR: usize = 1024 * 1024;

/// Output per step.
const STEP: usize = 16 * 1024;

/// RFC 9659: a zstd content coding needs no window above 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Said of the decoders that do not tell these apart.
const BROKEN: &str = "the data is broken, cut off, or followed by other bytes";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Undoes `Content-Encoding` (`gzip`, `deflate`, `br`, `zstd`, a list of up to three of them, `identity`) within the
/// limits. A body that is not encoded is returned as it is, without a copy.
///
/// Every member of a gzip body and every frame of a zstd body is decoded. `deflate` is zlib (RFC 9110, 8.4.1.2); a raw
/// stream is accepted only when its first bytes cannot be a zlib header.
///
/// # Errors
/// [`Unreadable`]: unknown coding, broken, cut, empty or trailing data (400), beyond the limits (413).
pub fn decode(body: &Bytes, content_encoding: Option<&str>, limits: &ReadLimits) -> Result<Bytes, Unreadable> {
    if body.len() > limits.max_decoded {
        return Err(too_large(limits.max_decoded));
    }
    let Some(header) = content_encoding else { return Ok(body.clone()) };
    let codings = codings(header)?;
    let by_ratio = body.len().saturating_mul(usize::try_from(limits.max_ratio).unwrap_or(usize::MAX)).max(RATIO_FLOOR);
    let bound = Bound { bytes: limits.max_decoded.min(by_ratio), by_ratio: by_ratio < limits.max_decoded, limits };

    let mut decoded = body.clone();
    // Applied in the order listed, so undone from the last.
    for coding in codings.into_iter().flatten().rev() {
        if decoded.is_empty() {
            return Err(invalid(coding, "the body is empty"));
        }
        decoded = match coding {
            Coding::Gzip => gzip(&decoded, &bound)?,
            Coding::Deflate => deflate(&decoded, &bound)?,
            Coding::Brotli => brotli(&decoded, &bound)?,
            Coding::Zstd => zstd(&decoded, &bound)?,
        }
        .into();
    }
    Ok(decoded)
}

/// The codings of a header, `identity` left out.
fn codings(header: &str) -> Result<[Option<Coding>; MAX_CODINGS], Unreadable> {
    let mut found = [None; MAX_CODINGS];
    let mut free = found.iter_mut();
    for name in header.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let coding = match () {
            () if is("identity") => continue,
            () if is("gzip") || is("x-gzip") => Coding::Gzip,
            () if is("deflate") => Coding::Deflate,
            () if is("br") => Coding::Brotli,
            () if is("zstd") => Coding::Zstd,
            () => {
                return Err(refusal(
                    "content-encoding names a coding that is not supported (gzip, deflate, br, zstd, identity)",
                ));
            }
        };
        let Some(slot) = free.next() else { return Err(refusal("content-encoding lists more than three codings")) };
        *slot = Some(coding);
    }
    Ok(found)
}

/// How much may come out.
struct Bound<'a> {
    bytes: usize,
    /// The ratio is the tighter bound.
    by_ratio: bool,
    limits: &'a ReadLimits,
}

impl Bound<'_> {
    fn append(&self, out: &mut Vec<u8>, piece: &[u8]) -> Result<(), Unreadable> {
        if piece.len() > self.bytes.saturating_sub(out.len()) {
            return Err(if self.by_ratio {
                Unreadable {
                    status: 413,
                    code: "request_too_large",
                    message: format!(
                        "the body grows to more than {} times its size when decoded",
                        self.limits.max_ratio
                    ),
                }
            } else {
                too_large(self.limits.max_decoded)
            });
        }
        out.extend_from_slice(piece);
        Ok(())
    }

    /// Room for a typical text, never for more than is allowed.
    fn buffer(&self, encoded: usize) -> Vec<u8> {
        Vec::with_capacity(encoded.saturating_mul(4).clamp(1024, 256 * 1024).min(self.bytes))
    }

    fn read_all(&self, coding: Coding, mut from: impl Read, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let mut step = [0; STEP];
        loop {
            match from.read(&mut step) {
                Ok(0) => return Ok(()),
                Ok(n) => self.append(out, step.get(..n).unwrap_or_default())?,
                Err(_) => return Err(invalid(coding, BROKEN)),
            }
        }
    }
}

fn gzip(encoded: &[u8], bound: &Bound<'_>) -> Result<Vec<u8>, Unreadable> {
    let mut out = bound.buffer(encoded.len());
    // Takes what follows a member for the next one, and so refuses anything else that follows.
    bound.read_all(Coding::Gzip, flate2::bufread::MultiGzDecoder::new(encoded), &mut out)?;
    Ok(out)
}

fn deflate(encoded: &[u8], bound: &Bound<'_>) -> Result<Vec<u8>, Unreadable> {
    // RFC 1950, 2.2: method 8, window of at most 32 KiB, check bits.
    let zlib = match *encoded {
        [cmf, flg, ..] => cmf & 0x0f == 8 && cmf >> 4 <= 7 && (u16::from(cmf) << 8 | u16::from(flg)) % 31 == 0,
        _ => false,
    };
    let mut state = Decompress::new(zlib);
    let mut out = bound.buffer(encoded.len());
    let mut rest = encoded;
    let mut step = [0; STEP];
    loop {
        let (in_before, out_before) = (state.total_in(), state.total_out());
        let status = state
            .decompress(rest, &mut step, FlushDecompress::None)
            .map_err(|_| invalid(Coding::Deflate, "the data is broken"))?;
        let taken = usize::try_from(state.total_in() - in_before).unwrap_or(usize::MAX);
        let made = usize::try_from(state.total_out() - out_before).unwrap_or(usize::MAX);
        rest = rest.get(taken..).unwrap_or_default();
        bound.append(&mut out, step.get(..made).unwrap_or_default())?;
        if status == Status::StreamEnd {
            return if rest.is_empty() { Ok(out) } else { Err(invalid(Coding::Deflate, "bytes follow the end")) };
        }
        if taken == 0 && made == 0 {
            return Err(invalid(Coding::Deflate, "the data is cut off"));
        }
    }
}

fn brotli(encoded: &[u8], bound: &Bound<'_>) -> Result<Vec<u8>, Unreadable> {
    // Strict: no "large window" streams, whose window may be a gibibyte and which no HTTP client sends.
    let mut state =
        BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let mut out = bound.buffer(encoded.len());
    let mut step = [0; STEP];
    let (mut available_in, mut at, mut total) = (encoded.len(), 0, 0);
    loop {
        let (mut available_out, mut made) = (STEP, 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut at,
            encoded,
            &mut available_out,
            &mut made,
            &mut step,
            &mut total,
            &mut state,
        );
        bound.append(&mut out, step.get(..made).unwrap_or_default())?;
        match result {
            BrotliResult::ResultSuccess if at == encoded.len() => return Ok(out),
            BrotliResult::ResultSuccess => return Err(invalid(Coding::Brotli, "bytes follow the end")),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Err(invalid(Coding::Brotli, "the data is cut off")),
            BrotliResult::ResultFailure => return Err(invalid(Coding::Brotli, "the data is broken")),
        }
    }
}

fn zstd(encoded: &[u8], bound: &Bound<'_>) -> Result<Vec<u8>, Unreadable> {
    let broken = |_| invalid(Coding::Zstd, BROKEN);
    let mut out = bound.buffer(encoded.len());
    // Takes what follows a frame for the next one, and so refuses anything else that follows.
    let mut frames = ::zstd::stream::read::Decoder::with_buffer(encoded).map_err(broken)?;
    frames.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
    bound.read_all(Coding::Zstd, frames, &mut out)?;
    Ok(out)
}

fn too_large(max: usize) -> Unreadable {
    Unreadable {
        status: 413,
        code: "request_too_large",
        message: format!("the body is larger than {max} bytes when decoded"),
    }
}

fn invalid(coding: Coding, what: &str) -> Unreadable {
    let name = match coding {
        Coding::Gzip => "gzip",
        Coding::Deflate => "deflate",
        Coding::Brotli => "br",
        Coding::Zstd => "zstd",
    };
    refusal(format!("content-encoding {name}: {what}"))
}

fn refusal(message: impl Into<String>) -> Unreadable {
    Unreadable { status: 400, code: "invalid_encoding", message: message.into() }
}
