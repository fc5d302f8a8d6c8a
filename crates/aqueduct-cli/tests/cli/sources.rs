//! The command's own sources: it decides by capabilities, never by the scheme of an address.

use std::fs;
use std::path::{Path, PathBuf};

use aqueduct::Endpoint;

/// Modules about one kind of thing, such as queues, which may name it.
const ABOUT_KINDS: [&str; 3] = ["look", "mq", "tour"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the sources are there").flatten() {
        let path = entry.path();
        let stem = path.file_stem().and_then(|it| it.to_str());
        if stem.is_some_and(|it| ABOUT_KINDS.contains(&it)) {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// What of a line of code depends on a scheme.
fn offence(line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    for scheme in Endpoint::schemes() {
        for literal in [
            format!("\"{}\"", scheme.name),
            format!("\"{}:\"", scheme.name),
        ] {
            if code.contains(&literal) {
                return Some(literal);
            }
        }
    }
    let mut rest = code;
    while let Some(at) = rest.find("Endpoint::") {
        rest = &rest[at + "Endpoint::".len()..];
        if rest.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Some(format!("Endpoint::{rest}"));
        }
    }
    let compares = ["==", "!=", "match ", "matches!", "starts_with"];
    let asks = code.contains("scheme()") || code.contains(".form()");
    (asks && compares.iter().any(|it| code.contains(it))).then(|| code.trim().to_owned())
}

#[test]
fn no_command_decides_by_the_scheme_of_an_address() {
    for line in [
        "    Endpoint::Fifo(fifo) => {}",
        "if endpoint.scheme().name == \"fifo\" {",
        "let is_queue = address.starts_with(\"mq:\");",
        "match endpoint.scheme().name {",
    ] {
        assert!(offence(line).is_some(), "{line}");
    }
    assert_eq!(
        offence("let all = Endpoint::schemes(); // not \"fifo\""),
        None
    );

    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("it is text");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (i, line) in code.lines().enumerate() {
            let at = format!("{}:{}", file.display(), i + 1);
            assert_eq!(offence(line), None, "{at} names a scheme: ask Capabilities");
        }
    }
}
