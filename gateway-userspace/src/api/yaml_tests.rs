//! YAML as it is read: places, limits, and what is refused.

use std::fmt::Write as _;

use super::*;

fn error_of(text: &str) -> (String, u32, u32) {
    let error = parse(text, 10).expect_err(text);
    (error.message, error.span.line, error.span.column)
}

#[test]
fn every_field_knows_its_place() {
    let root = parse("a:\n  b:\n  - c: word\n    d:\n  - - x\n", 10).unwrap().unwrap();
    let a = FieldPath::root().field("a");
    let first = a.field("b").index(0);
    for (path, line, column) in [
        (first.field("c"), 12, 8),
        (first.field("d"), 13, 5),
        (first.field("missing").field("deeper"), 12, 5),
        (a.field("b").index(1).index(0), 14, 7),
        (a.field("b"), 11, 3),
        (a.field("b").index(9), 11, 3),
        (FieldPath::root().field("z"), 10, 1),
    ] {
        let span = root.locate(&path);
        assert_eq!((span.line, span.column), (line, column), "{path}");
    }
}

#[test]
fn broken_yaml_is_told_at_its_place() {
    for (text, message, line, column) in [
        ("a: 1\na: 2\n", "the key `a` stands twice in this mapping", 11, 1),
        ("a:\n\tb: 1\n", "a tab in the indentation: YAML allows only spaces there", 11, 1),
        ("a: |\n  x\n  \ty\nb:\n\tc: 1\n", "a tab in the indentation: YAML allows only spaces there", 14, 1),
        (
            "a:\n- b: ---> (1)\n    c: 1\n",
            "`b` has the text `---> (1)` and, on the next line, a mapping too",
            11,
            6,
        ),
        ("? [a]\n: 1\n", "a key must be a single word, not a list or a mapping", 10, 3),
        ("a: &x [*x]\n", "an alias may not stand within what it names", 10, 8),
        ("<<: 1\n", "`<<` merges mappings only", 10, 5),
    ] {
        assert_eq!(error_of(text), (message.to_owned(), line, column), "{text:?}");
    }
}

#[test]
fn comments_line_ends_and_tabs_before_comments_are_no_matter() {
    for text in ["a: 1   \t# x\r\nb: 2\r\n", "# x\n\na: 1\n\t\nb: 2\n\t# y\n"] {
        let root = parse(text, 1).unwrap().unwrap();
        assert_eq!(root.get("b").and_then(|entry| entry.value.text()), Some("2"), "{text:?}");
    }
    assert!(parse("# only\n", 1).unwrap().is_none());
    assert!(parse("", 1).unwrap().is_none());
    assert!(parse("---\n", 1).unwrap().is_none());
}

#[test]
fn merged_keys_give_way_to_written_ones() {
    let root = parse("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n", 1).unwrap().unwrap();
    let y = &root.get("y").unwrap().value;
    assert_eq!(y.get("a").unwrap().value.text(), Some("1"));
    assert_eq!(y.get("b").unwrap().value.text(), Some("3"));
}

#[test]
fn aliases_and_nesting_are_bounded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let last = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", [last.as_str(); 9].join(", ")).unwrap();
    }
    assert_eq!(error_of(&bomb).0, "the document is too large, with what its aliases stand for");
    let deep = format!("a: {}{}\n", "[".repeat(100), "]".repeat(100));
    assert!(parse(&deep, 1).is_err());
    let mut chain = "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n".to_owned();
    for level in 1..9 {
        writeln!(chain, "a{level}: &a{level} [[[[[[[[[[*a{}]]]]]]]]]]", level - 1).unwrap();
    }
    assert_eq!(error_of(&chain).0, "the document is nested too deeply");
}
