//! [`Chapter`]: what of a chapter is a program, a command, a link or a heading.

use std::fs;

pub(crate) const CHAPTERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src");

pub(crate) struct Chapter {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A block of commands.
pub(crate) struct Block {
    pub(crate) commands: Vec<Command>,
    /// The programs without which it is skipped.
    pub(crate) needs: Vec<String>,
    /// Whether the numbers in its output are others each time.
    pub(crate) vary: bool,
}

pub(crate) struct Command {
    /// Where it is in the chapter.
    pub(crate) line: usize,
    pub(crate) command: String,
    /// Where its output begins.
    pub(crate) output_line: usize,
    pub(crate) output: String,
}

/// A fenced block, and the comments right above it.
struct Fence<'a> {
    line: usize,
    language: &'a str,
    lines: Vec<&'a str>,
    comments: Vec<&'a str>,
}

impl Chapter {
    pub(crate) fn read(name: &str) -> Self {
        let text = fs::read_to_string(format!("{CHAPTERS}/{name}.md")).unwrap();
        Self {
            name: name.to_owned(),
            text,
        }
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let entries = fs::read_dir(CHAPTERS).unwrap();
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|it| it != "SUMMARY.md");
        names.filter_map(|it| it.strip_suffix(".md").map(Self::read))
    }

    /// The names and texts of the programs.
    pub(crate) fn programs(&self) -> Vec<(String, String)> {
        let programs = self.fences().into_iter().filter_map(|fence| {
            let (comment, ending) = match fence.language {
                "c" => ("// ", ".c"),
                "rust" => ("// ", ".rs"),
                "python" => ("# ", ".py"),
                _ => return None,
            };
            let name = fence.lines.first().and_then(|it| it.strip_prefix(comment));
            let name = name.filter(|it| it.ends_with(ending));
            let name = name.unwrap_or_else(|| {
                panic!("{}.md:{}: a program needs a name", self.name, fence.line)
            });
            Some((name.to_owned(), fence.lines.join("\n") + "\n"))
        });
        programs.collect()
    }

    pub(crate) fn blocks(&self) -> Vec<Block> {
        let fences = self
            .fences()
            .into_iter()
            .filter(|it| it.language == "console");
        let blocks = fences.map(|fence| {
            let mut commands: Vec<Command> = Vec::new();
            for (number, line) in (fence.line + 1..).zip(fence.lines) {
                match (
                    line.strip_prefix("$ "),
                    line.strip_prefix("> "),
                    commands.last_mut(),
                ) {
                    (Some(command), ..) => commands.push(Command {
                        line: number,
                        command: command.to_owned(),
                        output_line: number + 1,
                        output: String::new(),
                    }),
                    (None, Some(more), Some(last)) if last.output.is_empty() => {
                        last.command += &format!("\n{more}");
                        last.output_line += 1;
                    }
                    (None, _, Some(last)) => last.output += &format!("{line}\n"),
                    (None, _, None) => {
                        panic!("{}.md:{number}: a block begins with `$ `", self.name)
                    }
                }
            }
            let needs = fence
                .comments
                .iter()
                .filter_map(|it| it.strip_prefix("needs "));
            Block {
                commands,
                needs: needs
                    .flat_map(str::split_whitespace)
                    .map(str::to_owned)
                    .collect(),
                vary: fence.comments.contains(&"numbers vary"),
            }
        });
        blocks.collect()
    }

    /// Where the links within the book lead.
    pub(crate) fn links(&self) -> Vec<&str> {
        let links = self.prose().flat_map(|it| it.split("](").skip(1));
        let links = links.map(|it| it.split(')').next().unwrap());
        links.filter(|it| !it.contains("://")).collect()
    }

    /// The anchors of the headings.
    pub(crate) fn headings(&self) -> impl Iterator<Item = String> {
        let headings = self.prose().filter(|it| it.starts_with('#'));
        headings.map(|it| {
            let text = it
                .trim_start_matches('#')
                .trim()
                .to_lowercase()
                .replace(' ', "-");
            text.replace(
                |it: char| !(it.is_alphanumeric() || it == '-' || it == '_'),
                "",
            )
        })
    }

    /// The lines that are in no fence.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut inside = false;
        self.text.lines().filter(move |line| {
            let fence = line.starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
    }

    fn fences(&self) -> Vec<Fence<'_>> {
        let mut fences = Vec::new();
        let mut comments = Vec::new();
        let mut lines = (1..).zip(self.text.lines());
        while let Some((line, text)) = lines.next() {
            if let Some(comment) = text
                .strip_prefix("<!-- ")
                .and_then(|it| it.strip_suffix(" -->"))
            {
                comments.push(comment);
            } else if let Some(language) = text.strip_prefix("```") {
                let inside = lines
                    .by_ref()
                    .map(|(_, it)| it)
                    .take_while(|it| *it != "```");
                let lines = inside.collect();
                fences.push(Fence {
                    line,
                    language,
                    lines,
                    comments: std::mem::take(&mut comments),
                });
            } else {
                comments.clear();
            }
        }
        fences
    }
}

/// Whether a command printed what it should.
pub(crate) fn same(got: &str, expected: &str, vary: bool, any_order: bool) -> bool {
    let lines = |text: &str| {
        // With its newline: a program may write that by a second call.
        let lines = text.split_inclusive('\n');
        // What the shell says about a background job.
        let lines = lines.filter(|it| !["Terminated\n", "Killed\n"].contains(it));
        let lines = lines.map(|it| {
            if vary {
                without_numbers(it)
            } else {
                it.to_owned()
            }
        });
        let mut lines: Vec<_> = lines.collect();
        if any_order {
            lines.sort();
        }
        lines
    };
    lines(got) == lines(expected)
}

/// With `#` for each number, and one space where they are aligned by several.
fn without_numbers(line: &str) -> String {
    let words = line
        .split_inclusive(char::is_whitespace)
        .filter(|it| !it.trim().is_empty());
    let words = words.map(|word| {
        let mut text = String::new();
        for it in word.chars() {
            match it {
                '0'..='9' if text.ends_with('#') => {}
                '0'..='9' => text.push('#'),
                it => text.push(it),
            }
        }
        text
    });
    words.collect()
}
