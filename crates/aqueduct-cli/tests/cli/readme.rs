//! What the README says is run as it stands there, with names of the test's own.

use std::process::{Command, Stdio};

use crate::support::{Dir, Running, start};

pub(crate) const README: &str = include_str!("../../README.md");

/// A place where the README's commands can run beside other tests, and what it has for what.
pub(crate) struct Place {
    dir: Dir,
    names: Vec<(String, String)>,
}

impl Place {
    /// `names`: what of the README is replaced by what; its files are in the test's directory.
    pub(crate) fn new(names: &[(&str, &str)]) -> Self {
        let dir = Dir::new();
        let tmp = dir.path("").display().to_string();
        let mut all = vec![("/tmp/".to_owned(), tmp)];
        all.extend(
            names
                .iter()
                .map(|(from, to)| ((*from).to_owned(), (*to).to_owned())),
        );
        Self { dir, names: all }
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(crate) fn here(&self, text: &str) -> String {
        let replaced = self.names.iter();
        replaced.fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// What runs a command of the README in a shell, with `aqueduct` being the one under test.
    pub(crate) fn shell(&self, command: &str) -> Command {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_aqueduct"));
        let mut path = program.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.args(["-c", &self.here(command)]);
        shell
            .env("PATH", path)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        // In a group of its own, so that it can be ended with all that it started.
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        shell
    }

    /// Starts a command that goes on until this is dropped.
    pub(crate) fn serve(&self, command: &str) -> Server {
        Server(start(&mut self.shell(command)))
    }
}

/// A shell and what it has started, killed with this.
pub(crate) struct Server(pub(crate) Running);

impl Drop for Server {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.0.pid() as i32);
        // It may have ended.
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
}

/// The two ways of a row of the table, as commands.
pub(crate) fn row(task: &str) -> (String, String) {
    row_of(README, task)
}

/// The two ways of a row of a page's tables, as commands.
pub(crate) fn row_of(page: &str, task: &str) -> (String, String) {
    let start = format!("| {task} | ");
    let line = page.lines().find_map(|it| it.strip_prefix(start.as_str()));
    let line = line.unwrap_or_else(|| panic!("the page has no row for {task:?}"));
    let cells = line.strip_suffix(" |").unwrap().replace("\\|", "\u{1}");
    let cells: Vec<_> = cells
        .split(" | ")
        .map(|it| it.replace('\u{1}', "|"))
        .collect();
    let code = |cell: &String| {
        let code = cell.strip_prefix('`').and_then(|it| it.strip_suffix('`'));
        code.unwrap_or(cell).to_owned()
    };
    assert_eq!(cells.len(), 2, "{cells:?}");
    (code(&cells[0]), code(&cells[1]))
}
