//! The repository's README and that of the library's package, whose code is run as its documentation;
//! the changelog.

#[test]
fn readme_code_is_run_as_documentation() {
    let of_package = include_str!("../../crates/aqueduct/README.md");
    let code = include_str!("../../README.md").split("```rust").skip(1);
    let blocks: Vec<_> = code.filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert!(
            of_package.contains(block),
            "not in the package's README:{block}"
        );
    }
}

/// A conflict that is resolved by keeping both sides would bring back a list that was replaced.
#[test]
fn the_changelog_has_its_entries_under_headings() {
    let text = include_str!("../../CHANGELOG.md");
    let head = text.split("\n### ").next().unwrap_or_default();
    assert!(!head.contains("\n- "), "move these under a heading: {head}");
}
