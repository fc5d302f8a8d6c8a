//! What `aqueduct list` leaves out, and in which order it tells the rest.

use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use super::{foreign_fifo, list, path};
use crate::support::{Dir, aqueduct, expect, expect_text, run, start};

/// The addresses that are listed, without the path of the directory.
fn addresses(dir: &Dir, args: &[&str]) -> Vec<String> {
    let here = path(dir);
    let names = |thing: &Value| thing["address"].as_str().unwrap().replace(&here, "");
    list(args).iter().map(names).collect()
}

#[test]
fn an_address_prefix_selects_what_begins_so_wherever_it_is() {
    let dir = Dir::new();
    let here = path(&dir);
    foreign_fifo(&dir.path("job"));
    foreign_fifo(&dir.path("jobs"));
    foreign_fifo(&dir.path("other"));
    let _socket = UnixListener::bind(dir.path("jobs.sock")).unwrap();
    let (fifo, unix) = (format!("fifo:{here}/job"), format!("unix:{here}/"));
    assert_eq!(addresses(&dir, &[&fifo]), ["fifo:/job", "fifo:/jobs"]);
    assert_eq!(addresses(&dir, &[&unix]), ["unix:/jobs.sock"]);
    let both = addresses(&dir, &[&fifo, &unix]);
    assert_eq!(both, ["fifo:/job", "fifo:/jobs", "unix:/jobs.sock"]);
    // Beside a directory it is a filter of what is in it.
    assert_eq!(addresses(&dir, &[&here, "unix:"]), ["unix:/jobs.sock"]);
    assert!(addresses(&dir, &["unix:"]).contains(&"unix:/jobs.sock".to_owned()));
    assert!(
        addresses(&dir, &["fifo:"])
            .iter()
            .all(|it| it.starts_with("fifo:"))
    );
    // From where it is run.
    let mut command = aqueduct(&["list", "fifo:job"]);
    let text = expect_text(run(command.current_dir(&here)), 0);
    assert_eq!(text.lines().count(), 3, "{text}");
    let (_, said) = expect(run(&mut aqueduct(&["list", "tcp:"])), 0);
    assert_eq!(said, "aqueduct: no address begins with tcp:\n");
}

#[test]
fn mine_and_orphaned_leave_the_rest_out() {
    let dir = Dir::new();
    let here = path(&dir);
    foreign_fifo(&dir.path("theirs"));
    foreign_fifo(&dir.path("held"));
    let _held = File::options()
        .read(true)
        .write(true)
        .open(dir.path("held"))
        .unwrap();
    // It is made, and left by a command that is killed.
    let mut recv = start(aqueduct(&["recv", &dir.fifo("ours")]).stdin(Stdio::null()));
    crate::support::until("it is made", || dir.path("ours").exists());
    assert_eq!(addresses(&dir, &[&here, "--mine"]), ["fifo:/ours"]);
    assert_eq!(addresses(&dir, &[&here, "--orphaned"]), ["fifo:/theirs"]);
    recv.signal(nix::sys::signal::Signal::SIGKILL);
    recv.wait();
    assert_eq!(
        addresses(&dir, &[&here, "--orphaned"]),
        ["fifo:/ours", "fifo:/theirs"]
    );
    assert_eq!(
        addresses(&dir, &[&here, "--orphaned", "--mine"]),
        ["fifo:/ours"]
    );
    let (_, said) = expect(run(&mut aqueduct(&["list", "--mine", "--all"])), 2);
    assert!(said.contains("cannot be used with"), "{said}");
}

#[test]
fn things_are_sorted_by_address_state_or_depth() {
    let dir = Dir::new();
    let here = path(&dir);
    foreign_fifo(&dir.path("a"));
    mkfifo(&dir.path("b"), Mode::S_IRWXU).unwrap();
    let _held = File::options()
        .read(true)
        .write(true)
        .open(dir.path("b"))
        .unwrap();
    let one = UnixListener::bind(dir.path("c")).unwrap();
    let two = UnixListener::bind(dir.path("d")).unwrap();
    let _clients = [(); 2].map(|()| UnixStream::connect(dir.path("d")).unwrap());
    let _client = UnixStream::connect(dir.path("c")).unwrap();
    let _accepted = [&one, &two, &two].map(|it| it.accept().unwrap());
    let sorted = |by| addresses(&dir, &[&here, "--sort", by]);
    assert_eq!(
        sorted("address"),
        ["fifo:/a", "fifo:/b", "unix:/c", "unix:/d"]
    );
    assert_eq!(
        sorted("state"),
        ["fifo:/b", "unix:/c", "unix:/d", "fifo:/a"]
    );
    assert_eq!(
        sorted("depth"),
        ["unix:/d", "unix:/c", "fifo:/a", "fifo:/b"]
    );
}

#[test]
fn a_long_path_is_whole_in_a_pipe_and_wrapped_on_a_terminal() {
    let dir = Dir::new();
    let deep = dir.path(&"long".repeat(30)).join("and-on".repeat(20));
    std::fs::create_dir_all(&deep).unwrap();
    foreign_fifo(&deep.join("x"));
    let address = format!("fifo:{}", deep.join("x").display());
    let deep = deep.display().to_string();
    let text = expect_text(run(&mut aqueduct(&["list", &deep])), 0);
    assert!(text.contains(&format!("\n{address}\torphaned\t")), "{text}");
    let mut terminal = crate::pty::Terminal::start(&aqueduct(&["list", &deep]));
    assert!(terminal.wait().success());
    terminal.contains(&address[address.len() - 6..]);
    let shown = String::from_utf8(terminal.written()).unwrap();
    assert!(
        shown.lines().all(|it| it.trim_end().chars().count() <= 80),
        "{shown}"
    );
    // The first column, put together again.
    let rows = shown
        .lines()
        .skip(2)
        .map(|it| it.split("   ").next().unwrap().trim());
    assert_eq!(rows.collect::<String>(), address);
}
