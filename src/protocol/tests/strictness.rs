//! What is refused, so that nobody upstream reads something else than was scanned.

use super::*;

#[test]
fn every_shape_that_lenient_parsers_read_differently_is_refused() {
    for (what, body) in [
        ("a comma or the end", &br#"{"a":1 "b":2}"#[..]),
        ("trailing bytes", br#"{"a":1}{"a":2}"#),
        ("trailing bytes", b"{} x"),
        ("trailing bytes", b"01"),
        ("trailing bytes", b"1\0"),
        ("duplicate key", br#"{"a":1,"a":2}"#),
        ("duplicate key", br#"{"role":1,"role":2}"#),
        ("duplicate key", br#"{"role":1,"r\u006fle":2}"#),
        ("duplicate key", br#"{"unknown":1,"unkn\u006fwn":2}"#),
        ("duplicate key", br#"{"":1,"":2}"#),
        ("byte order mark", b"\xef\xbb\xbf{}"),
        ("invalid UTF-8", b"{\"a\":\"\xff\"}"),
        ("invalid UTF-8", b"{\"a\":\"\xed\xa0\x80\"}"),
        ("invalid UTF-8", b"{\"a\":\"\xc0\xaf\"}"),
        ("lone surrogate", br#"["\ud800"]"#),
        ("lone surrogate", br#"["\udc00"]"#),
        ("lone surrogate", br#"["\ud83d\u0041"]"#),
        ("lone surrogate", br#"["\ud83dx"]"#),
        ("lone surrogate", br#"{"\udfff":1}"#),
        ("invalid escape", br#"["\x41"]"#),
        ("invalid escape", br#"["\u00g0"]"#),
        ("invalid escape", br#"["\u12"#),
        ("control character", b"[\"a\nb\"]"),
        ("control character", b"[\"a\x00b\"]"),
        ("control character", b"{\"a\tb\":1}"),
        ("ends inside a string", br#"["abc"#),
        ("ends inside an object or array", b"[1"),
        ("ends inside an object or array", br#"{"a":1"#),
        ("ends where a value", br#"{"a":"#),
        ("ends where a value", b" \n "),
        ("a value is expected", b"[1,]"),
        ("a value is expected", b"[,1]"),
        ("a value is expected", b"nan"),
        ("a value is expected", b"NaN"),
        ("a value is expected", b"[Infinity]"),
        ("a value is expected", b"[+1]"),
        ("a value is expected", b"[.5]"),
        ("a value is expected", b"tru"),
        ("a value is expected", b"['a']"),
        ("a value is expected", b"/* c */ 1"),
        ("a value is expected", b"\x0c1"),
        ("a value is expected", b"\xc2\xa01"),
        ("a value is expected", b"]"),
        ("a key in quotes", br#"{"a":1,}"#),
        ("a key in quotes", b"{a:1}"),
        ("a key in quotes", b"{1:1}"),
        ("a colon", br#"{"a" 1}"#),
        ("a colon", br#"{"a"}"#),
        ("a digit", b"[1.]"),
        ("a digit", b"[1e]"),
        ("a digit", b"[1e+]"),
        ("a digit", b"[-]"),
        ("a comma or the end", b"[01]"),
        ("a comma or the end", b"[0x10]"),
        ("a comma or the end", b"[1}"),
        ("a comma or the end", br#"{"a":1]"#),
    ] {
        let shown = String::from_utf8_lossy(body);
        for dialect in [None, Some(Dialect::Openai), Some(Dialect::Anthropic)] {
            let error = read(dialect, Some("application/json"), body, &LIMITS, BinaryRule::Pass)
                .expect_err(&format!("{shown} must be refused"));
            assert_eq!((error.status, error.code), (400, "invalid_json"), "{shown}");
            assert!(error.message.contains(what), "{shown}: {error}");
            assert!(error.message.contains(" at byte "), "{shown}: {error}");
        }
    }
}

#[test]
fn what_is_valid_is_read() {
    for body in [
        "{}",
        "[]",
        " [ ] ",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1e9",
        "1E+9",
        "-1.5e-3",
        "\"\"",
        "\"\u{7f}\"",
        r#""\ud83d\ude00\/\b\f\n\r\t\"\\\uFFFF""#,
        "[[],{}]",
        "\r\n\t {\"a\" : [ 1 , 2 ] }\n",
        "{\"a\":{\"a\":{\"a\":1}}}",
        "1e999",
    ] {
        read_json(None, body).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
}

#[test]
fn depth_is_bounded_exactly() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read_json(None, &nested(64)).is_ok());
    let error = read_json(None, &nested(65)).unwrap_err();
    assert!(error.message.contains("nested too deeply at byte 64"), "{error}");
    assert!(read_json(None, &"[".repeat(1_000_000)).is_err());
}

#[test]
fn a_fault_names_the_place_and_never_quotes() {
    let body =
        r#"{"messages":[{"role":"user"},{"content":[{"text":"my secret","jo@example.com":{"text":"bad \x"}}]}]}"#;
    let error = read_json(Some(Dialect::Openai), body).unwrap_err();
    assert_eq!(
        error.message,
        format!(
            "the body is not valid JSON: invalid escape at byte {} in messages[1].content[0].*.text",
            body.find(r"\x").unwrap()
        )
    );
}

#[test]
fn many_keys_are_compared_in_linear_time_and_duplicates_are_still_found() {
    let keys: Vec<String> = (0..20_000).map(|i| format!("\"k{i}\":0")).collect();
    let body = format!("{{{}}}", keys.join(","));
    assert!(read_json(None, &body).is_ok());
    for again in [0, 5, 15, 16, 17, 19_999] {
        let body = format!("{{{},\"\\u006b{again}\":0}}", keys.join(","));
        let error = read_json(None, &body).unwrap_err();
        assert!(error.message.contains("duplicate key"), "k{again}: {error}");
    }
    // Equal keys in different objects are no duplicates.
    assert!(read_json(None, r#"{"k":{"k":{"k":1}},"l":[{"k":1},{"k":2}]}"#).is_ok());
}

#[test]
fn more_pieces_of_text_than_are_kept_are_refused() {
    let body = format!("[{}\"x\"]", "\"x\",".repeat(600_000));
    let error = read_json(None, &body).unwrap_err();
    assert_eq!((error.status, error.code), (413, "request_too_large"));
}
