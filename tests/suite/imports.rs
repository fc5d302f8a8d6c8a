//! Dependencies point down: what the library's `use` lines say of its floors, read as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. A module uses only those of floors below its own.
const FLOORS: &[&[&str]] = &[
    &["io"],
    &["address"],
    &["frame"],
    &["codec"],
    &["channel"],
    &["connect"],
    &["call", "pipe"],
    &["child", "fifo", "mq", "nats", "stdio", "tcp", "unix"],
    &["shm", "tls", "udp", "unixgram"],
    &["inherited"],
    &["endpoint"],
    &["handshake", "record", "service"],
    &["relay"],
    &["contract", "fuzzing"],
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/aqueduct/src")
}

/// A module: its path from the crate's root, and the paths that it names.
#[derive(Debug)]
struct Module {
    path: Vec<String>,
    /// Absolute, of what it uses itself.
    uses: BTreeSet<Vec<String>>,
    /// What it re-exports: a name, and where it is from.
    exports: BTreeMap<String, Vec<String>>,
}

impl Module {
    fn read(file: &Path, path: Vec<String>) -> Self {
        let text = fs::read_to_string(file).expect("a source file can be read");
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: Vec<String>) -> Self {
        let mut module = Self {
            path,
            uses: BTreeSet::new(),
            exports: BTreeMap::new(),
        };
        let code = without_tests(&without_comments(text));
        let mut rest = code.as_str();
        let mut other = String::new();
        while let Some(at) = find_use(rest) {
            let end = rest[at..].find(';').map_or(rest.len(), |it| at + it);
            other.push_str(&rest[..at]);
            let line = rest[..at].rsplit('\n').next().unwrap_or("");
            let public = line.contains("pub");
            for (path, name) in expand(&rest[at + 4..end]) {
                let path = module.absolute(path);
                if public {
                    module.exports.insert(name, path);
                } else {
                    module.uses.insert(path);
                }
            }
            rest = &rest[end..];
        }
        other.push_str(rest);
        for (at, _) in other.match_indices("crate::") {
            let path = segments(&other[at..]);
            module.uses.insert(module.absolute(path));
        }
        module
    }

    /// `path` from the crate's root, without `crate`.
    fn absolute(&self, path: Vec<String>) -> Vec<String> {
        let mut from = self.path.clone();
        let mut path = path.into_iter().peekable();
        match path.peek().map(String::as_str) {
            Some("crate") => {
                path.next();
                from.clear();
            }
            Some("self") => drop(path.next()),
            Some("super") => {
                while path.next_if(|it| it == "super").is_some() {
                    from.pop();
                }
            }
            // Another crate, or a module of this one's own.
            _ => {}
        }
        from.extend(path);
        from
    }
}

fn find_use(code: &str) -> Option<usize> {
    let starts = |at: usize| {
        let line = code[..at].rsplit('\n').next().unwrap_or("").trim();
        line.is_empty() || line == "pub" || line.starts_with("pub(") && line.ends_with(')')
    };
    code.match_indices("use ")
        .map(|it| it.0)
        .find(|at| starts(*at))
}

fn without_comments(text: &str) -> String {
    let line = |line: &str| line.split("//").next().unwrap_or("").to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Without what is there for tests alone, which may look at anything.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = match (item.find(';'), item.find('{')) {
            (Some(semicolon), brace) if brace.is_none_or(|it| semicolon < it) => semicolon + 1,
            (_, Some(brace)) => brace + block(&item[brace..]),
            _ => item.len(),
        };
        rest = &item[end..];
    }
    kept + rest
}

/// How long the block is that `text` begins with.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

fn segments(text: &str) -> Vec<String> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
        .unwrap_or(text.len());
    let path = text[..end].split("::").filter(|it| !it.is_empty());
    path.map(ToOwned::to_owned).collect()
}

/// The paths of a `use` tree, each with the name that it brings.
fn expand(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = segments(path.trim());
        let last = path.last().cloned().unwrap_or_default();
        let name = if name.is_empty() {
            last
        } else {
            name.trim().to_owned()
        };
        return vec![(path, name)];
    };
    let prefix = segments(&tree[..open]);
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("it is never empty").push(c);
    }
    let parts = parts.iter().filter(|it| !it.trim().is_empty());
    parts
        .flat_map(|part| expand(part))
        .map(|(path, name)| {
            let own = path.iter().filter(|it| *it != "self").cloned();
            (prefix.iter().cloned().chain(own).collect(), name)
        })
        .collect()
}

/// All modules of the library, but those that are there for tests.
fn modules() -> Vec<Module> {
    fn read(dir: &Path, path: &[String], modules: &mut Vec<Module>) {
        let entries = fs::read_dir(dir).expect("a folder can be listed");
        for entry in entries {
            let file = entry.expect("it can be listed").path();
            let name = file.file_stem().expect("it has a name");
            let name = name.to_string_lossy().into_owned();
            // `model` is what loom runs, `mock` what unit tests use.
            if ["tests", "model", "mock", "lib"].contains(&&*name) {
                continue;
            }
            let path = [path, &[name]].concat();
            if file.is_dir() {
                read(&file, &path, modules);
            } else {
                modules.push(Module::read(&file, path));
            }
        }
    }
    let mut modules = Vec::new();
    read(&source(), &[], &mut modules);
    modules
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|it| it.contains(&module))
}

/// What `module` names of its own or a higher floor.
fn upward(module: &Module) -> Vec<String> {
    let from = &module.path[0];
    let Some(own) = floor(from) else {
        return vec![format!("{from} is on no floor")];
    };
    let named = module.uses.iter().chain(module.exports.values());
    let named = named.filter_map(|it| it.first()).filter(|it| *it != from);
    let up = named.filter(|it| floor(it).is_some_and(|it| it >= own));
    up.map(|it| format!("{} uses {it}", module.path.join("::")))
        .collect()
}

/// Which files of each folder name each other in a circle.
fn circles(modules: &[Module]) -> Vec<String> {
    let exports = |path: &[String]| {
        let module = modules.iter().find(|it| it.path == path);
        module.map(|it| &it.exports)
    };
    // What a path leads to, through re-exports.
    let resolve = |path: &[String]| {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let found = (1..path.len()).find_map(|at| {
                let target = exports(&path[..at])?.get(&path[at])?;
                Some([target, &path[at + 1..]].concat())
            });
            match found {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    };
    let is_module = |path: &[String]| modules.iter().any(|it| it.path.starts_with(path));
    let mut folders: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for module in modules {
        for used in &module.uses {
            let used = resolve(used);
            // Of every folder that both are in, between the two entries there.
            for depth in 0..module.path.len().min(used.len()) {
                let (folder, same) = (&module.path[..depth], used[..depth] == module.path[..depth]);
                let (from, to) = (&module.path[depth], &used[depth]);
                if !same || from == to || !is_module(&used[..=depth]) {
                    continue;
                }
                let edges = folders.entry(folder.to_vec()).or_default();
                edges.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    let mut found = BTreeSet::new();
    for (folder, edges) in &folders {
        for start in edges.keys() {
            let circle = reached(edges, start).into_iter();
            let circle: Vec<_> = circle
                .filter(|it| reached(edges, it).contains(start))
                .collect();
            let circle = circle.iter().map(|it| it.as_str()).collect::<Vec<_>>();
            if circle.len() > 1 {
                found.insert(format!("{}: {}", folder.join("::"), circle.join(", ")));
            }
        }
    }
    found.into_iter().collect()
}

/// Everything that `start` leads to.
fn reached<'a>(edges: &'a BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![start];
    while let Some(at) = next.pop() {
        for to in edges.get(at).into_iter().flatten() {
            if seen.insert(to) {
                next.push(to);
            }
        }
    }
    seen
}

#[test]
fn modules_use_lower_floors_alone() {
    let modules = modules();
    assert!(modules.len() > 80, "{} files", modules.len());
    let up: Vec<_> = modules.iter().flat_map(upward).collect();
    assert!(up.is_empty(), "{up:#?}");
}

#[test]
fn files_of_a_folder_form_no_circle() {
    let circles = circles(&modules());
    assert!(circles.is_empty(), "{circles:#?}");
}

fn module(path: &str, text: &str) -> Module {
    Module::parse(text, path.split("::").map(ToOwned::to_owned).collect())
}

#[test]
fn an_upward_use_is_found_in_every_form() {
    for text in [
        "use crate::endpoint::Endpoint;",
        "use crate::{frame, endpoint};",
        "use crate::{frame::{Framing, Pace}, endpoint::{self as door}};",
        "use std::io;\n\npub(crate) use crate::service::Context;",
        "fn f() -> crate::relay::Relay { todo!() }",
        "use super::super::endpoint::Endpoint;",
    ] {
        assert_eq!(
            upward(&module("connect::listener", text)).len(),
            1,
            "{text}"
        );
    }
    for text in [
        "// use crate::endpoint::Endpoint;",
        "/// See [`Endpoint`](crate::endpoint::Endpoint).",
        "#[cfg(test)]\nuse crate::endpoint::Endpoint;\nuse crate::frame::Framing;",
        "#[cfg(test)]\nmod tests {\n    use crate::endpoint::Endpoint;\n}",
        "use super::endpoint::Endpoint;",
    ] {
        assert!(
            upward(&module("connect::listener", text)).is_empty(),
            "{text}"
        );
    }
    assert_eq!(upward(&module("attic", "")), ["attic is on no floor"]);
}

#[test]
fn a_circle_is_found_through_re_exports() {
    let modules = [
        module(
            "connect",
            "mod a;\nmod b;\npub use self::a::A;\npub use self::b::B;",
        ),
        module("connect::a", "use super::B;"),
        module("connect::b", "use super::{c, A};"),
        module("connect::c", "use super::a::A;"),
    ];
    assert_eq!(circles(&modules), ["connect: a, b, c"]);
}
