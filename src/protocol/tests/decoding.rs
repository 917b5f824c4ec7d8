//! Content codings, good, broken and hostile.

use std::io::Write;

use bytes::Bytes;

use super::*;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn brotli(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(data).unwrap();
    out
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

type Encoder = fn(&[u8]) -> Vec<u8>;

const CODINGS: [(&str, Encoder); 5] =
    [("gzip", gzip), ("deflate", zlib), ("deflate", raw_deflate), ("br", brotli), ("zstd", zstd)];

fn decoded(encoding: &str, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
    decode(&Bytes::copy_from_slice(body), Some(encoding), &LIMITS).map(Vec::from)
}

#[test]
fn every_coding_is_undone() {
    let text = br#"{"messages":[{"role":"user","content":"hello"}]}"#.repeat(700);
    for (name, encode) in CODINGS {
        assert_eq!(decoded(name, &encode(&text)).as_deref(), Ok(&text[..]), "{name}");
        assert_eq!(decoded(&format!(" {} ,", name.to_uppercase()), &encode(&text)).as_deref(), Ok(&text[..]));
        assert_eq!(decoded(name, &encode(b"")).as_deref(), Ok(&b""[..]), "{name}: an encoded nothing is nothing");
    }
    assert_eq!(decoded("x-gzip", &gzip(&text)).as_deref(), Ok(&text[..]));
    assert_eq!(decoded("gzip, identity, br", &brotli(&gzip(&text))).as_deref(), Ok(&text[..]));
    assert_eq!(decoded("deflate,zstd , gzip", &gzip(&zstd(&zlib(&text)))).as_deref(), Ok(&text[..]));
}

#[test]
fn what_is_not_encoded_is_not_copied() {
    let body = Bytes::from_static(b"hello");
    for encoding in [None, Some("identity"), Some(""), Some(" Identity , ")] {
        let out = decode(&body, encoding, &LIMITS).unwrap();
        assert_eq!(out.as_ptr(), body.as_ptr(), "{encoding:?}");
    }
}

#[test]
fn all_members_and_frames_are_read() {
    let members = [gzip(b"one "), gzip(b"two "), gzip(b"three")].concat();
    assert_eq!(decoded("gzip", &members).as_deref(), Ok(&b"one two three"[..]));
    let frames = [zstd(b"one "), zstd(b"two")].concat();
    assert_eq!(decoded("zstd", &frames).as_deref(), Ok(&b"one two"[..]));
}

#[test]
fn broken_cut_and_followed_data_is_refused() {
    let text: Vec<u8> = (0..20_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_string().into_bytes()).collect();
    let refused = |name: &str, body: &[u8], why: &str| {
        let error = decoded(name, body).expect_err(&format!("{name}: {why} must be refused"));
        assert_eq!((error.status, error.code), (400, "invalid_encoding"), "{name}: {why}");
    };
    for (name, encode) in CODINGS {
        let good = encode(&text);
        for cut in [1, 2, 5, good.len() / 2, good.len() - 9, good.len() - 1] {
            refused(name, &good[..cut], &format!("cut to {cut} of {}", good.len()));
        }
        refused(name, &[&good[..], b"x"].concat(), "a byte after the end");
        refused(name, &[&good[..], &[0; 16]].concat(), "zeros after the end");
        refused(name, b"{\"not\":\"encoded\"}", "plain text");
        refused(name, b"", "an empty body");
    }
    let mut wrong_sum = gzip(&text);
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    refused("gzip", &wrong_sum, "a wrong checksum");
    let mut wrong_sum = zlib(&text);
    let at = wrong_sum.len() - 1;
    wrong_sum[at] ^= 1;
    refused("deflate", &wrong_sum, "a wrong checksum");
}

#[test]
fn unknown_and_too_many_codings_are_refused() {
    for encoding in ["compress", "aws-chunked", "gzip;q=1", "gzip, snappy", "*", "gzip,gzip,gzip,gzip"] {
        let error = decoded(encoding, &gzip(b"x")).expect_err(encoding);
        assert_eq!((error.status, error.code), (400, "invalid_encoding"), "{encoding}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_is_built() {
    let bomb = vec![b' '; 64 << 20];
    for (name, encode) in CODINGS {
        let packed = encode(&bomb);
        let by_size = decode(&packed.clone().into(), Some(name), &ReadLimits { max_ratio: 1_000_000, ..LIMITS });
        let error = by_size.expect_err(name);
        assert_eq!((error.status, error.code), (413, "request_too_large"), "{name}");
        assert!(error.message.contains("4194304 bytes"), "{name}: {error}");

        let by_ratio =
            decode(&packed.into(), Some(name), &ReadLimits { max_decoded: 1 << 30, max_ratio: 20, ..LIMITS });
        let error = by_ratio.expect_err(name);
        assert_eq!((error.status, error.code), (413, "request_too_large"), "{name}");
        assert!(error.message.contains("20 times"), "{name}: {error}");
    }
    // A bomb inside a bomb is counted against what was received.
    let nested = gzip(&gzip(&bomb));
    let limits = ReadLimits { max_decoded: 1 << 30, max_ratio: 20, ..LIMITS };
    assert_eq!(decode(&nested.into(), Some("gzip, gzip"), &limits).unwrap_err().status, 413);
    // The bound holds for what is not encoded as well.
    assert_eq!(decode(&bomb.into(), None, &LIMITS).unwrap_err().status, 413);
}

#[test]
fn a_small_body_may_pack_as_well_as_it_likes() {
    let text = vec![b'a'; 8 << 20];
    for (name, encode) in CODINGS {
        let packed = encode(&text);
        assert!(packed.len() < 64 * 1024, "{name} packs better than 100 to 1");
        let limits = ReadLimits { max_decoded: 64 << 20, max_ratio: 1, ..LIMITS };
        let out = decode(&packed.clone().into(), Some(name), &limits);
        assert_eq!(out.map(|out| out.len()), Ok(8 << 20), "{name}");
        let over = encode(&[&text[..], b"a"].concat());
        assert_eq!(decode(&over.into(), Some(name), &limits).unwrap_err().status, 413, "{name}");
    }
}

#[test]
fn a_zstd_window_beyond_rfc_9659_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&vec![b'a'; 100_000]).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(decoded("zstd", &packed).unwrap_err().code, "invalid_encoding");
}
