use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn parse(address: &str) -> Endpoint {
    address.parse().unwrap()
}

fn problem(address: &str) -> AddressProblem {
    let error = address.parse::<Endpoint>().expect_err(address);
    assert_eq!(error.address(), address);
    error.problem().clone()
}

/// Bytes that are special somewhere in the grammar come up often.
fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        proptest::sample::select(&b"/%?&=@'\"\\ \n[]:.ab\xff\xe2"[..]),
        1..=255u8
    ];
    prop::collection::vec(byte, 1..max)
}

fn paths() -> impl Strategy<Value = PathBuf> {
    bytes(40).prop_map(|it| PathBuf::from(OsString::from_vec(it)))
}

fn words() -> impl Strategy<Value = OsString> {
    bytes(12).prop_map(OsString::from_vec)
}

fn opt<T: fmt::Debug + Clone>(some: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::of(some)
}

fn fifos() -> impl Strategy<Value = Endpoint> {
    (
        paths(),
        opt(0..=0o777u32),
        opt(any::<bool>()),
        opt(any::<bool>()),
    )
        .prop_map(|(path, mode, create, persist)| {
            let mut fifo = Fifo::new(path).unwrap();
            fifo = mode.map_or(fifo.clone(), |it| fifo.with_mode(it));
            fifo = create.map_or(fifo.clone(), |it| fifo.with_create(it));
            persist
                .map_or(fifo.clone(), |it| fifo.with_persist(it))
                .into()
        })
}

fn queues() -> impl Strategy<Value = Endpoint> {
    let driver = prop_oneof![Just(MqDriver::Pool), Just(MqDriver::AsyncFd)];
    (
        "/[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}",
        opt(1..=65_536usize),
        opt(any::<bool>()),
        opt(driver),
        opt(1..=16_777_216usize),
        opt(0..=0o777u32),
        opt(0..=32_767u32),
    )
        .prop_map(
            |(name, capacity, create, driver, message, mode, priority)| {
                let mut mq = Mq::new(name).unwrap();
                mq = capacity.map_or(mq.clone(), |it| mq.with_capacity(it).unwrap());
                mq = create.map_or(mq.clone(), |it| mq.with_create(it));
                mq = driver.map_or(mq.clone(), |it| mq.with_driver(it));
                mq = message.map_or(mq.clone(), |it| mq.with_max_message(it).unwrap());
                mq = mode.map_or(mq.clone(), |it| mq.with_mode(it));
                priority
                    .map_or(mq.clone(), |it| mq.with_priority(it).unwrap())
                    .into()
            },
        )
}

fn sockets() -> impl Strategy<Value = Endpoint> {
    let name = prop_oneof![
        paths().prop_map(|it| Unix::new(it).unwrap()),
        prop::collection::vec(any::<u8>(), 1..=107).prop_map(|it| Unix::new_abstract(it).unwrap()),
    ];
    (name, opt(0..=0o777u32), any::<bool>()).prop_map(|(unix, mode, packet)| {
        let unix = mode.map_or(unix.clone(), |it| unix.with_mode(it));
        match packet {
            true => Endpoint::UnixPacket(unix),
            false => Endpoint::Unix(unix),
        }
    })
}

fn tcps() -> impl Strategy<Value = Endpoint> {
    let host = prop_oneof![
        "[a-z0-9_][a-zA-Z0-9._-]{0,20}",
        any::<std::net::Ipv4Addr>().prop_map(|it| it.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|it| it.to_string()),
        Just("fe80::1%eth0".to_owned()),
    ];
    (host, any::<u16>(), opt(any::<bool>())).prop_map(|(host, port, nodelay)| {
        let tcp = Tcp::new(host, port).unwrap();
        nodelay
            .map_or(tcp.clone(), |it| tcp.with_nodelay(it))
            .into()
    })
}

fn endpoints() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        fifos(),
        queues(),
        sockets(),
        tcps(),
        (0..=i32::MAX as u32).prop_map(|it| Fd::new(it).unwrap().into()),
        Just(Endpoint::Stdio),
        (
            words(),
            prop::collection::vec(prop_oneof![words(), Just("".into())], 0..4)
        )
            .prop_map(|(program, args)| Exec::new(program, args).unwrap().into()),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_endpoint(endpoint in endpoints()) {
        let printed = endpoint.to_string();
        let parsed = printed.parse::<Endpoint>();
        prop_assert_eq!(parsed.as_ref(), Ok(&endpoint), "{}", printed);
        // Paths compare by component, so compare what is printed too.
        prop_assert_eq!(parsed.unwrap().to_string(), printed.as_str());
        prop_assert!(!printed.chars().any(char::is_control), "{:?}", printed);
        // The long form of the same address.
        let (scheme, rest) = printed.split_once(':').unwrap();
        let long = format!("{scheme}://{}", rest.strip_prefix("//").unwrap_or(rest));
        prop_assert_eq!(long.parse::<Endpoint>(), Ok(endpoint));
    }

    #[test]
    fn a_path_keeps_its_bytes(path in paths()) {
        let printed = Endpoint::from(Fifo::new(&path).unwrap()).to_string();
        let Ok(Endpoint::Fifo(fifo)) = printed.parse() else { panic!("{printed}") };
        prop_assert_eq!(fifo.path().as_os_str(), path.as_os_str());
    }

    #[test]
    fn no_address_makes_the_parser_panic(address in "\\PC*", bytes in bytes(60)) {
        let _ = address.parse::<Endpoint>();
        for (scheme, _) in SCHEMES {
            let _ = format!("{scheme}:{address}").parse::<Endpoint>();
            let mut raw = format!("{scheme}:").into_bytes();
            raw.extend_from_slice(&bytes);
            if let Err(error) = Endpoint::try_from(OsString::from_vec(raw)) {
                prop_assert!(!error.to_string().chars().any(char::is_control));
            }
        }
    }
}

#[test]
fn every_scheme_takes_both_forms_and_has_one_printed_form() {
    for (short, long, printed) in [
        ("fifo:/a/b", "fifo:///a/b", "fifo:/a/b"),
        ("fifo:a/b", "fifo://a/b", "fifo:a/b"),
        ("fifo:////a", "fifo:////a", "fifo:////a"),
        ("mq:/jobs", "mq:///jobs", "mq:/jobs"),
        ("unix:/s", "unix:///s", "unix:/s"),
        ("unix:@s", "unix://@s", "unix:@s"),
        ("unixpacket:@s", "unixpacket://@s", "unixpacket:@s"),
        ("tcp:h:80", "tcp://h:80", "tcp://h:80"),
        ("fd:3", "fd://3", "fd:3"),
        ("stdio:", "stdio://", "stdio:"),
        ("exec:cat -n", "exec://cat -n", "exec:cat -n"),
    ] {
        assert_eq!(parse(short), parse(long), "{short}");
        assert_eq!(parse(short).to_string(), printed);
    }
}

#[test]
fn special_bytes_in_a_path_are_written_as_escapes() {
    let Endpoint::Fifo(fifo) = parse("fifo:/tmp/a%3Fb%25%20c%0A%ff?create=false") else {
        panic!()
    };
    assert_eq!(fifo.path().as_os_str().as_bytes(), b"/tmp/a?b% c\n\xff");
    assert_eq!(fifo.create(), Some(false));
    let raw = OsString::from_vec(b"fifo:/tmp/a b\xff".to_vec());
    let endpoint = Endpoint::try_from(raw).unwrap();
    assert_eq!(endpoint.to_string(), "fifo:/tmp/a%20b%FF");
}

#[test]
fn an_at_sign_makes_a_name_abstract_unless_it_is_escaped() {
    assert_eq!(
        parse("unix:@x"),
        Endpoint::Unix(Unix::new_abstract("x").unwrap())
    );
    let file = Endpoint::Unix(Unix::new("@x").unwrap());
    assert_eq!(file.to_string(), "unix:%40x");
    assert_eq!(parse("unix:%40x"), file);
    assert!(matches!(
        problem("unix:@"),
        AddressProblem::InvalidPart {
            part: "abstract name",
            ..
        }
    ));
}

#[test]
fn an_unknown_scheme_option_or_value_names_the_nearest_right_one() {
    let cases = [
        ("fifi:/x", "did you mean \"fifo\"?"),
        ("FIFO:/x", "did you mean \"fifo\"?"),
        ("pipe:/x", "did you mean \"fifo\"?"),
        ("/tmp/x", "did you mean \"fifo:/tmp/x\"?"),
        ("./a:b", "did you mean \"fifo:./a:b\"?"),
        ("localhost:80", "did you mean \"tcp://localhost:80\"?"),
        ("stdio", "did you mean \"stdio:\"?"),
        ("-", "did you mean \"stdio:\"?"),
        (
            "http://x",
            "the schemes are exec, fd, fifo, mq, stdio, tcp, unix and unixpacket",
        ),
        ("fifo:/x?mod=600", "did you mean \"mode\"?"),
        ("fifo:/x?capacity=3", "fifo takes create, mode and persist"),
        ("mq:/x?prio=3", "did you mean \"priority\"?"),
        ("mq:/x?driver=asynfd", "did you mean \"asyncfd\"?"),
        ("mq:/x?driver=", "it takes pool or asyncfd"),
        ("mq:/x?priority=32768", "from 0 to 32767"),
        ("mq:/x?capacity=0", "from 1 to 65536"),
        ("mq:/x?capacity=1KiB", "from 1 to 65536"),
        ("mq:/x?max-message=17MiB", "from 1 to 16777216"),
        ("fifo:/x?persist", "did you mean \"true\"?"),
        ("fifo:/x?persist=no", "did you mean \"false\"?"),
        ("fifo:/x?mode=0800", "octal"),
        ("fifo:/x?mode=+600", "octal"),
        ("fifo:/x?mode=1777", "octal"),
        ("fifo:/x?mode=600&mode=600", "given twice"),
        ("fifo:/x?&mode=600", "unknown option \"\""),
        ("tcp://h:1?nodelay=True", "did you mean \"true\"?"),
        ("exec:ls a?", "is missing"),
        ("exec:grep -q x?y", "exec takes none (write a question mark"),
        ("fifo:/50%", "write a percent sign itself as %25"),
    ];
    for (address, sentence) in cases {
        let error = address.parse::<Endpoint>().map_err(|it| it.to_string());
        match (address, error) {
            // A lone question mark: no options.
            ("exec:ls a?", parsed) => assert_eq!(parsed, Ok(parse("exec:ls a"))),
            (_, Ok(endpoint)) => panic!("{address} is taken for {endpoint}"),
            (_, Err(error)) => {
                assert!(error.contains(sentence), "{error}");
                assert!(
                    error.starts_with(&format!("address {address:?}: ")),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_queue_name_is_a_slash_and_plain_characters() {
    for name in ["/a", "/A-z.0_9", "/..."] {
        assert_eq!(
            parse(&format!("mq:{name}")).to_string(),
            format!("mq:{name}")
        );
    }
    let longest = format!("mq:/{}", "n".repeat(255));
    assert_eq!(parse(&longest).to_string(), longest);
    let too_long = format!("/{}", "n".repeat(256));
    for name in [
        "", "/", "foo", "//x", "/a/b", "/.", "/..", "/a b", "/a%0Ab", "/é", &too_long,
    ] {
        // Behind `mq:` two slashes would be those of `mq://`.
        let problem = problem(&format!("mq://{name}"));
        assert!(
            matches!(problem, AddressProblem::InvalidPart { part: "name", .. }),
            "{name}: {problem:?}"
        );
    }
}

#[test]
fn a_tcp_address_has_a_host_and_a_port() {
    for (address, host, port) in [
        ("tcp://127.0.0.1:0", "127.0.0.1", 0),
        ("tcp://[::1]:65535", "::1", 65_535),
        ("tcp://[fe80::1%25eth0]:1", "fe80::1%eth0", 1),
        ("tcp:my-host.example:8080", "my-host.example", 8080),
    ] {
        let Endpoint::Tcp(tcp) = parse(address) else {
            panic!()
        };
        assert_eq!((tcp.host(), tcp.port()), (host, port));
    }
    for (address, wrong) in [
        ("tcp://h", "port"),
        ("tcp://h:", "port"),
        ("tcp://h:65536", "port"),
        ("tcp://h:+1", "port"),
        ("tcp://h:1/", "port"),
        ("tcp://[::1]", "port"),
        ("tcp://[::1]80", "port"),
        ("tcp://:80", "host"),
        ("tcp://", "host"),
        ("tcp://::1:80", "host"),
        ("tcp://[::1:80", "host"),
        ("tcp://[h]:80", "host"),
        ("tcp://a b:80", "host"),
        ("tcp://user@h:80", "host"),
    ] {
        match problem(address) {
            AddressProblem::InvalidPart { part, .. } => assert_eq!(part, wrong, "{address}"),
            other => panic!("{address}: {other}"),
        }
    }
}

#[test]
fn a_command_is_split_like_in_a_shell_and_escapes_never_split() {
    let exec = |program: &str, args: &[&str]| Endpoint::from(Exec::new(program, args).unwrap());
    for (address, command) in [
        ("exec: cat  -n ", exec("cat", &["-n"])),
        (
            "exec:sh -c 'echo \"hi\" \\ '",
            exec("sh", &["-c", "echo \"hi\" \\ "]),
        ),
        (
            r#"exec:a "b \" c"d \' ''"#,
            exec("a", &["b \" cd", "'", ""]),
        ),
        (
            "exec:a%20b %27 $HOME #x",
            exec("a b", &["'", "$HOME", "#x"]),
        ),
        ("exec:date +%25s", exec("date", &["+%s"])),
    ] {
        assert_eq!(parse(address), command);
        assert_eq!(parse(&command.to_string()), command);
    }
    assert_eq!(
        exec("sh", &["-c", "a 'b' \\?"]).to_string(),
        "exec:sh -c 'a %27b%27 \\%3F'"
    );
    for address in [
        "exec:",
        "exec: ",
        "exec:''",
        "exec:a 'b",
        "exec:a \"b",
        "exec:a \\",
        "exec:a%00",
    ] {
        assert!(
            matches!(
                problem(address),
                AddressProblem::InvalidPart {
                    part: "command",
                    ..
                }
            ),
            "{address}"
        );
    }
}

#[test]
fn a_descriptor_is_a_number_and_stdio_is_bare() {
    assert_eq!(
        parse("fd:2147483647"),
        Fd::new(i32::MAX as u32).unwrap().into()
    );
    assert!(Fd::new(1 << 31).is_err());
    for address in [
        "fd:",
        "fd:-1",
        "fd:+3",
        "fd:x",
        "fd:2147483648",
        "fd:99999999999",
    ] {
        assert!(
            matches!(
                problem(address),
                AddressProblem::InvalidPart {
                    part: "descriptor",
                    ..
                }
            ),
            "{address}"
        );
    }
    assert!(matches!(
        problem("stdio:x"),
        AddressProblem::InvalidPart { part: "rest", .. }
    ));
}

#[test]
fn capabilities_follow_the_address() {
    let fifo = parse("fifo:/x").capabilities();
    assert_eq!(fifo.direction(), Direction::OneWay);
    assert_eq!(fifo.keeps_boundaries(), Some(false));
    assert_eq!(fifo.end_of_stream(), EndOfStream::LastWriter);
    assert_eq!(fifo.writers(), Sharing::UpTo(4096));
    let persistent = parse("fifo:/x?persist=true").capabilities();
    assert_eq!(persistent.end_of_stream(), EndOfStream::Never);
    let queue = parse("mq:/x?max-message=100").capabilities();
    assert_eq!(queue.ordering(), Ordering::Priority);
    assert_eq!(queue.largest_message(), LargestMessage::Bytes(100));
    assert_eq!(queue.readers(), Sharing::Many);
    let tcp = parse("tcp://h:1").capabilities();
    assert_eq!(tcp.direction(), Direction::TwoWay);
    assert_eq!(tcp.readers(), Sharing::PerConnection);
    assert_eq!(
        parse("unixpacket:/x").capabilities().keeps_boundaries(),
        Some(true)
    );
    assert_eq!(parse("fd:3").capabilities().keeps_boundaries(), None);
}

#[cfg(feature = "json")]
#[test]
fn an_endpoint_is_its_address_in_serde() {
    let endpoint = parse("fifo:/a%20b?mode=0600");
    let json = serde_json::to_string(&endpoint).unwrap();
    assert_eq!(json, "\"fifo:/a%20b?mode=0600\"");
    assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
    let error = serde_json::from_str::<Endpoint>("\"fifi:/x\"").unwrap_err();
    assert!(
        error.to_string().contains("did you mean \"fifo\"?"),
        "{error}"
    );
}
