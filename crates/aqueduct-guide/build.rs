//! Turns each Rust program of the chapters into a module, and lists them.
//!
//! A block ```` ```rust ```` begins with a comment that names its file. It becomes a file of the same name
//! in `OUT_DIR`, after as many empty lines as it has lines above it in the chapter: so the compiler's line
//! numbers are the chapter's.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    let chapters = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src");
    let out = env::var("OUT_DIR").expect("Cargo sets it");
    println!("cargo::rerun-if-changed={}", chapters.display());
    let entries = fs::read_dir(&chapters).expect("the guide has chapters");
    let mut paths: Vec<_> = entries
        .map(|it| it.expect("it is readable").path())
        .collect();
    paths.sort();
    let mut names = BTreeSet::new();
    for path in paths {
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).expect("a chapter is text");
        for (name, program) in programs(&path, &text) {
            fs::write(Path::new(&out).join(format!("{name}.rs")), program)
                .expect("OUT_DIR is writable");
            assert!(
                names.insert(name.clone()),
                "two programs are named {name}.rs"
            );
        }
    }
    let mut list = String::new();
    for name in &names {
        writeln!(
            list,
            "mod {name} {{
                pub(super) fn start() -> anyhow::Result<()> {{ main() }}
                include!(concat!(env!(\"OUT_DIR\"), \"/{name}.rs\"));
            }}"
        )
        .expect("memory is enough");
    }
    writeln!(list, "const PROGRAMS: &[(&str, Start)] = &[").expect("as above");
    for name in &names {
        writeln!(list, "(\"{name}\", {name}::start),").expect("as above");
    }
    list.push_str("];\n");
    fs::write(Path::new(&out).join("programs.rs"), list).expect("OUT_DIR is writable");
}

/// The Rust programs of a chapter, by name.
fn programs(path: &Path, text: &str) -> Vec<(String, String)> {
    let mut programs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if !line.starts_with("```rust") {
            continue;
        }
        let code: Vec<_> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|it| *it != "```")
            .collect();
        let name = code
            .first()
            .and_then(|it| it.strip_prefix("// ")?.strip_suffix(".rs"));
        let name = name.unwrap_or_else(|| {
            panic!(
                "{}:{}: the first line of a program is `// name.rs`",
                path.display(),
                number + 2
            )
        });
        let above = "\n".repeat(number + 1);
        programs.push((name.to_owned(), above + &code.join("\n") + "\n"));
    }
    programs
}
