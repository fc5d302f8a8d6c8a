//! `aqueduct list` and `aqueduct clean`: what there is, who has it open, and what goes.

mod filter;
mod shared;
mod sockets;

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::namespace::{self, alone};
use crate::support::{Dir, aqueduct, expect, expect_text, run, start, until, until_open};

/// What `aqueduct list` says of these directories.
fn list(args: &[&str]) -> Vec<Value> {
    let text = expect_text(run(aqueduct(&["list", "--json", "-q"]).args(args)), 0);
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

fn find<'a>(things: &'a [Value], address: &str) -> &'a Value {
    let found = things.iter().find(|it| it["address"] == address);
    found.unwrap_or_else(|| panic!("{address} is missing: {things:?}"))
}

/// The one who has it open.
fn holder(thing: &Value, pid: u32) -> Value {
    let holders = thing["open_by"].as_array().unwrap();
    let holder = holders.iter().find(|it| it["pid"] == pid);
    holder
        .unwrap_or_else(|| panic!("{pid} is missing: {thing}"))
        .clone()
}

fn path(dir: &Dir) -> String {
    dir.path("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned()
}

/// Makes a FIFO of somebody else's.
fn foreign_fifo(path: &Path) {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
}

#[test]
fn fifos_are_listed_with_those_who_read_write_and_wait() {
    let dir = Dir::new();
    let recv = start(&mut aqueduct(&["recv", &dir.fifo("read")]));
    until_open(recv.pid(), &dir.path("read"));
    let send = start(&mut aqueduct(&["send", &dir.fifo("sent"), "hi"]));
    send.told("waiting for");
    foreign_fifo(&dir.path("theirs"));
    foreign_fifo(&dir.path("both"));
    let (both, theirs) = (dir.path("both"), dir.path("theirs"));
    let both = start(
        Command::new("sleep").arg("1000").stdin(
            std::fs::File::options()
                .read(true)
                .write(true)
                .open(both)
                .unwrap(),
        ),
    );
    // It hangs in open(2), and has no descriptor.
    let mut cat = Command::new("cat");
    let cat = start(cat.arg(&theirs).stdin(Stdio::null()));
    until("cat waits", || {
        let place = std::fs::read_to_string(format!("/proc/{}/wchan", cat.pid()));
        ["wait_for_partner", "fifo_open"].contains(&place.unwrap_or_default().trim())
    });
    let things = list(&[&path(&dir)]);
    assert_eq!(things.len(), 4);
    let read = find(&things, &dir.fifo("read"));
    assert_eq!(
        (&read["state"], &read["made_by_aqueduct"]),
        (&"in use".into(), &true.into())
    );
    let reader = holder(read, recv.pid());
    assert_eq!(
        (
            &reader["command"],
            &reader["reads"],
            &reader["writes"],
            &reader["opening"]
        ),
        (
            &"aqueduct".into(),
            &true.into(),
            &false.into(),
            &false.into()
        )
    );
    let sent = find(&things, &dir.fifo("sent"));
    assert_eq!(sent["state"], "in use");
    holder(sent, send.pid());
    let thing = find(&things, &dir.fifo("both"));
    assert_eq!(
        (&thing["state"], &thing["made_by_aqueduct"]),
        (&"in use".into(), &false.into())
    );
    let sleep = holder(thing, both.pid());
    assert_eq!(
        (&sleep["reads"], &sleep["writes"]),
        (&true.into(), &true.into())
    );
    let theirs = find(&things, &dir.fifo("theirs"));
    // Where processes may not be traced it is not seen what it waits for.
    if theirs["state"] != "unclear" {
        assert_eq!(theirs["state"], "in use");
        let waits = holder(theirs, cat.pid());
        assert_eq!(
            (
                &waits["command"],
                &waits["reads"],
                &waits["writes"],
                &waits["opening"]
            ),
            (&"cat".into(), &true.into(), &false.into(), &true.into())
        );
    }
    // As a table, too.
    let table = expect_text(run(&mut aqueduct(&["list", &path(&dir)])), 0);
    let line = format!(
        "{}\tin use\t-\taqueduct\taqueduct[{}]:r\n",
        dir.fifo("read"),
        recv.pid()
    );
    assert!(
        table.starts_with("address\tstate\tdepth\tmade\topen_by\n"),
        "{table}"
    );
    assert!(table.contains(&line), "{table}");
    drop((recv, send, both, cat));
    until("nobody has them open", || {
        list(&[&path(&dir)])
            .iter()
            .all(|it| it["state"] == "orphaned")
    });
}

#[test]
fn sockets_are_listed_with_servers_clients_and_dead_ones() {
    let dir = Dir::new();
    let address = |scheme: &str, name: &str| format!("{scheme}:{}", dir.path(name).display());
    let (stream, packets, dead) = (
        address("unix", "stream"),
        address("unixpacket", "packets"),
        address("unix", "dead"),
    );
    let name = format!("unix:@aqueduct-cli-look-{}", std::process::id());
    let serving = |address: &str| {
        let serve = start(aqueduct(&["serve", address]).stdin(Stdio::null()));
        serve.told("serving ");
        serve
    };
    let servers = [&stream, &packets, &dead, &name].map(|it| serving(it));
    servers[2].signal(Signal::SIGKILL);
    let client = UnixStream::connect(dir.path("stream")).unwrap();
    let _theirs = UnixListener::bind(dir.path("theirs")).unwrap();
    let _datagrams = UnixDatagram::bind(dir.path("datagrams")).unwrap();
    let mut things = Vec::new();
    until("the client is there and the server dead", || {
        things = list(&[&path(&dir)]);
        find(&things, &stream)["connections"] == 1 && find(&things, &dead)["state"] == "orphaned"
    });
    assert_eq!(things.len(), 5);
    let state = |address: &str| {
        let thing = find(&things, address);
        (
            thing["state"].clone(),
            thing["made_by_aqueduct"].as_bool().unwrap(),
        )
    };
    assert_eq!(state(&stream), ("in use".into(), true));
    assert_eq!(state(&packets), ("in use".into(), true));
    assert_eq!(state(&dead), ("orphaned".into(), true));
    assert_eq!(state(&address("unix", "theirs")), ("in use".into(), false));
    assert_eq!(
        state(&address("unixgram", "datagrams")),
        ("in use".into(), false)
    );
    holder(find(&things, &stream), servers[0].pid());
    holder(find(&things, &packets), servers[1].pid());
    assert_eq!(find(&things, &dead)["open_by"], Value::Array(vec![]));
    // What has no file is listed with all.
    let all = list(&[]);
    holder(find(&all, &name), servers[3].pid());
    drop(client);
}

/// Runs `aqueduct clean` and gives what it printed, by lines of JSON, and said.
fn clean(dir: &Dir, flags: &[&str], code: i32) -> (Vec<Value>, String) {
    let mut clean = aqueduct(&["clean", "--json", &path(dir)]);
    let (stdout, stderr) = expect(run(clean.args(flags)), code);
    let stdout = String::from_utf8(stdout).unwrap();
    let lines = stdout.lines().map(|it| serde_json::from_str(it).unwrap());
    (lines.collect(), stderr)
}

#[test]
fn clean_removes_only_orphans_made_by_aqueduct_when_told_to() {
    let dir = Dir::new();
    let unix = |name: &str| format!("unix:{}", dir.path(name).display());
    // Ours and orphaned, ours and in use, theirs.
    for name in ["orphan", "used"] {
        expect(
            run(&mut aqueduct(&[
                "recv",
                &dir.fifo(name),
                "--timeout",
                "1ms",
            ])),
            3,
        );
    }
    let recv = start(&mut aqueduct(&["recv", &dir.fifo("used")]));
    until_open(recv.pid(), &dir.path("used"));
    foreign_fifo(&dir.path("theirs"));
    let serving = |address: &str| {
        let serve = start(aqueduct(&["serve", address]).stdin(Stdio::null()));
        serve.told("serving ");
        serve
    };
    let _serve = serving(&unix("served"));
    let mut dead = serving(&unix("dead"));
    dead.signal(Signal::SIGKILL);
    dead.wait();
    drop(UnixListener::bind(dir.path("their-dead")).unwrap());
    std::fs::write(dir.path("file"), "precious").unwrap();
    let kept = ["file", "served", "their-dead", "theirs", "used"];
    let orphans = [dir.fifo("orphan"), unix("dead")];

    // Another test's process that waits for a FIFO may make it unclear for a while; so may one that
    // is just being started, and still has our listener.
    let told = |lines: &[Value], removed: bool| {
        let told = lines
            .iter()
            .map(|it| it["address"].as_str().unwrap().to_owned());
        let told: Vec<_> = told.collect();
        told == orphans && lines.iter().all(|it| it["removed"] == removed)
    };
    let mut said = String::new();
    until("both are told of, as are those of others", || {
        let (lines, stderr) = clean(&dir, &[], 0);
        said = stderr;
        told(&lines, false) && said.contains("2 orphaned that Aqueduct did not create")
    });
    assert!(
        said.contains("nothing was removed: with --yes 2 would be"),
        "{said}"
    );
    for name in ["orphan", "dead", "dead.lock"] {
        assert!(dir.path(name).exists(), "{name}");
    }
    until("both are removed", || {
        let output = run(&mut aqueduct(&["clean", "--yes", &path(&dir)]));
        assert!(matches!(output.status.code(), Some(0 | 1)));
        !dir.path("orphan").exists() && !dir.path("dead").exists()
    });
    let mut names: Vec<_> = std::fs::read_dir(dir.path(""))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|it| !it.ends_with(".lock"));
    names.sort();
    assert_eq!(names, kept);
    assert!(!dir.path("dead.lock").exists(), "it goes with its socket");
    let (lines, said) = clean(&dir, &["--yes"], 0);
    assert!(
        lines.is_empty() && said.contains("nothing to remove"),
        "{said}"
    );
    // What was in use still works.
    expect(run(&mut aqueduct(&["send", &dir.fifo("used"), "hi"])), 0);
    assert_eq!(expect_text(recv.finish(), 0), "hi\n");
    let reply = run(&mut aqueduct(&["call", &unix("served"), "hi"]));
    assert_eq!(expect_text(reply, 0), "hi\n");
    assert!(
        std::fs::symlink_metadata(dir.path("their-dead"))
            .unwrap()
            .file_type()
            .is_socket()
    );
}

#[test]
fn what_a_killed_tour_leaves_is_removed_with_its_directory() {
    let dir = Dir::new();
    let tour = dir.path("aqueduct-tour-x");
    std::fs::create_dir(&tour).unwrap();
    let fifo = format!("fifo:{}", tour.join("f").display());
    expect(run(&mut aqueduct(&["recv", &fifo, "--timeout", "1ms"])), 3);
    until("it is removed", || {
        run(&mut aqueduct(&["clean", "--yes", &path(&dir)]));
        !tour.exists()
    });
}

#[test]
fn a_directory_that_is_not_there_is_a_failure() {
    for command in ["list", "clean"] {
        let (_, stderr) = expect(run(&mut aqueduct(&[command, "/no/where"])), 1);
        assert!(
            stderr.contains("cannot read directory /no/where: No such file"),
            "{stderr}"
        );
    }
}

#[test]
fn a_prefix_with_an_unknown_scheme_is_named() {
    let (_, stderr) = expect(run(&mut aqueduct(&["list", "unixx:/tmp"])), 2);
    assert!(stderr.contains("did you mean \"unix\"?"), "{stderr}");
}

#[test]
fn clean_removes_only_empty_queues_made_by_aqueduct() {
    if !alone(
        "look::clean_removes_only_empty_queues_made_by_aqueduct",
        true,
    ) {
        return;
    }
    let aqueduct = namespace::aqueduct;
    // No process has more than PID_MAX_LIMIT, proc_pid_max(5).
    let killed = "aqueduct-tour-4194305";
    let running = format!("aqueduct-tour-{}", std::process::id());
    for (name, message) in [
        ("/orphan", None),
        ("/waiting", Some("hi")),
        ("/used", None),
        (format!("/{killed}").as_str(), Some("of a killed tour")),
        ("/aqueduct-tour-4194306", None),
        (format!("/{running}").as_str(), Some("of this process")),
        ("/aqueduct-tour-notes", Some("of no tour")),
    ] {
        let create = [
            "mq",
            "create",
            name,
            "--capacity",
            "3",
            "--max-message",
            "16",
            "-q",
        ];
        expect(run(&mut aqueduct(&create)), 0);
        if let Some(message) = message {
            expect(
                run(&mut aqueduct(&["send", &format!("mq:{name}"), message])),
                0,
            );
        }
    }
    posix_queue("/theirs");
    let recv = start(&mut aqueduct(&["recv", "mq:/used"]));
    let _tour = start(&mut aqueduct(&["recv", "mq:/aqueduct-tour-4194306"]));
    let list = || {
        let text = expect_text(run(&mut aqueduct(&["list", "--json"])), 0);
        let lines = text.lines().map(|it| serde_json::from_str(it).unwrap());
        lines.collect::<Vec<Value>>()
    };
    let mut things = Vec::new();
    until("it is open", || {
        things = list();
        let used = ["mq:/used", "mq:/aqueduct-tour-4194306"];
        used.iter().all(|it| find(&things, it)["state"] == "in use")
    });
    assert_eq!(holder(find(&things, "mq:/used"), recv.pid())["reads"], true);
    for (address, state, messages, ours) in [
        ("mq:/orphan", "orphaned", 0, true),
        ("mq:/waiting", "waiting", 1, true),
        (format!("mq:/{killed}").as_str(), "waiting", 1, true),
        (format!("mq:/{running}").as_str(), "waiting", 1, true),
        ("mq:/aqueduct-tour-notes", "waiting", 1, true),
        ("mq:/theirs", "orphaned", 0, false),
    ] {
        let thing = find(&things, address);
        assert_eq!(thing["state"], state, "{thing}");
        assert_eq!(
            (&thing["messages"], &thing["capacity"]),
            (&messages.into(), &3.into())
        );
        assert_eq!(thing["made_by_aqueduct"], ours, "{thing}");
    }
    let (stdout, said) = expect(run(&mut aqueduct(&["clean", "--yes"])), 0);
    assert_eq!(
        String::from_utf8(stdout).unwrap(),
        format!("address\tremoved\nmq:/{killed}\tyes\nmq:/orphan\tyes\n")
    );
    assert!(said.contains("3 with messages in them"), "{said}");
    assert!(
        said.contains("1 orphaned that Aqueduct did not create"),
        "{said}"
    );
    let left: Vec<_> = list()
        .iter()
        .map(|it| it["address"].as_str().unwrap().to_owned())
        .collect();
    let running = format!("mq:/{running}");
    let mut expected = [
        "mq:/aqueduct-tour-4194306",
        running.as_str(),
        "mq:/aqueduct-tour-notes",
        "mq:/theirs",
        "mq:/used",
        "mq:/waiting",
    ];
    expected.sort_unstable();
    assert_eq!(left, expected);
}

/// A queue of another program.
fn posix_queue(name: &str) {
    use nix::mqueue::{MQ_OFlag, MqAttr, mq_close, mq_open};
    let name = std::ffi::CString::new(name).unwrap();
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
    let attributes = MqAttr::new(0, 3, 9, 0);
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    mq_close(mq_open(name.as_c_str(), flags, mode, Some(&attributes)).unwrap()).unwrap();
}

#[test]
fn without_the_queue_file_system_the_rest_is_listed() {
    if !alone(
        "look::without_the_queue_file_system_the_rest_is_listed",
        false,
    ) {
        return;
    }
    let (stdout, said) = expect(run(&mut namespace::aqueduct(&["list"])), 0);
    assert!(stdout.starts_with(b"address\t"));
    assert!(
        said.contains("queues are not shown") && said.contains("mount -t mqueue"),
        "{said}"
    );
}
