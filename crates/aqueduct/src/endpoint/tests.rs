mod round_trip;
pub(super) mod toy;

use std::os::unix::ffi::OsStringExt;

use super::*;

fn parse(address: &str) -> Endpoint {
    address.parse().unwrap()
}

fn problem(address: &str) -> AddressProblem {
    let error = address.parse::<Endpoint>().expect_err(address);
    assert_eq!(error.address(), address);
    error.problem().clone()
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
    let fifo = parse("fifo:/tmp/a%3Fb%25%20c%0A%ff?create=false");
    let path = fifo.path().unwrap();
    assert_eq!(path.as_os_str().as_bytes(), b"/tmp/a?b% c\n\xff");
    assert!(fifo.to_string().ends_with("?create=false"));
    let raw = OsString::from_vec(b"fifo:/tmp/a b\xff".to_vec());
    let endpoint = Endpoint::try_from(raw).unwrap();
    assert_eq!(endpoint.to_string(), "fifo:/tmp/a%20b%FF");
}

#[test]
fn an_at_sign_makes_a_name_abstract_unless_it_is_escaped() {
    assert_eq!(parse("unix:@x").path(), None);
    let file = parse("unix:%40x");
    assert_eq!(file.to_string(), "unix:%40x");
    assert_eq!(file.path(), Some("@x".as_ref()));
    assert!(matches!(
        problem("unix:@"),
        AddressProblem::InvalidPart {
            part: "abstract name",
            ..
        }
    ));
}

#[test]
fn an_unknown_scheme_option_or_value_names_the_nearest() {
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
            match cfg!(feature = "tls") {
                true => "shm, stdio, tcp, tls, toy, udp, unix, unixgram and unixpacket",
                false => "shm, stdio, tcp, toy, udp, unix, unixgram and unixpacket",
            },
        ),
        (
            "http://x",
            match cfg!(feature = "nats") {
                true => "fifo, mq, nats, shm",
                false => "fifo, mq, shm",
            },
        ),
        ("fifo:/x?mod=600", "did you mean \"mode\"?"),
        (
            "fifo:/x?capacity=3",
            "fifo takes create, frame, group, mode and persist",
        ),
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
        ("fifo:/x?&mode=600", "no option follows"),
        ("fifo:/x?mode=600&", "no option follows"),
        ("fifo:/tmp/what?", "write a literal question mark as %3F"),
        ("tcp://h:1?", "as %3F"),
        ("unix:/x?group=", "the name or number of a group"),
        ("tcp://h:1?nodelay=True", "did you mean \"true\"?"),
        ("exec:ls a?", "as %3F"),
        (
            "exec:grep -q x?y",
            "exec takes frame (write a literal question mark",
        ),
        ("unix:/s?frame=lime", "did you mean \"lines\"?"),
        ("unix:/s?frame=u16", "it takes lines, crlf, nul"),
        (
            "unixpacket:/s?frame=lines",
            "unixpacket takes group and mode",
        ),
        ("mq:/q?frame=lines", "unknown option \"frame\""),
        ("fifo:/50%", "write a literal percent sign as %25"),
    ];
    for (address, sentence) in cases {
        let error = address.parse::<Endpoint>().map_err(|it| it.to_string());
        match (address, error) {
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
fn a_queue_name_is_a_slash_and_one_word() {
    // A name that would not be created may still exist.
    for name in ["/a", "/A-z.0_9", "/...", "/a%20b", "/a%0Ab", "/é", "/a:b"] {
        assert_eq!(
            parse(&format!("mq:{name}")).to_string(),
            format!("mq:{name}")
        );
    }
    let longest = format!("mq:/{}", "n".repeat(255));
    assert_eq!(parse(&longest).to_string(), longest);
    let too_long = format!("/{}", "n".repeat(256));
    for name in [
        "", "/", "foo", "//x", "/a/b", "/.", "/..", "/a%00b", &too_long,
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
    for (address, printed) in [
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp:[::1]:65535", "tcp://[::1]:65535"),
        ("tcp://[fe80::1%25eth0]:1", "tcp://[fe80::1%25eth0]:1"),
        ("tcp:my-host.example:8080", "tcp://my-host.example:8080"),
    ] {
        assert_eq!(parse(address).to_string(), printed);
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
    for (address, printed) in [
        ("exec: cat  -n ", "exec:cat -n"),
        (
            "exec:sh -c 'echo \"hi\" \\ '",
            "exec:sh -c 'echo \"hi\" \\ '",
        ),
        (r#"exec:a "b \" c"d \' ''"#, "exec:a 'b \" cd' %27 ''"),
        ("exec:a%20b %27 $HOME #x", "exec:'a b' %27 $HOME #x"),
        ("exec:date +%25s", "exec:date +%25s"),
        (
            "exec:sh -c 'a %27b%27 \\%3F'",
            "exec:sh -c 'a %27b%27 \\%3F'",
        ),
    ] {
        assert_eq!(parse(address).to_string(), printed);
        assert_eq!(parse(printed).to_string(), printed);
    }
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
    assert_eq!(parse("fd:2147483647").to_string(), "fd:2147483647");
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
    assert_eq!(fifo.direction, Direction::OneWay);
    assert_eq!(fifo.keeps_boundaries, Some(false));
    assert_eq!(fifo.end_of_stream, EndOfStream::LastWriter);
    assert_eq!(fifo.writers, Sharing::UpTo(4096));
    let persistent = parse("fifo:/x?persist=true").capabilities();
    assert_eq!(persistent.end_of_stream, EndOfStream::Never);
    let queue = parse("mq:/x?max-message=100").capabilities();
    assert_eq!(queue.ordering, Ordering::Priority);
    assert_eq!(queue.largest_message, LargestMessage::Bytes(100));
    assert_eq!(queue.readers, Sharing::Many);
    let tcp = parse("tcp://h:1").capabilities();
    assert_eq!(tcp.direction, Direction::TwoWay);
    assert_eq!(tcp.readers, Sharing::PerConnection);
    assert_eq!(
        parse("unixpacket:/x").capabilities().keeps_boundaries,
        Some(true)
    );
    assert_eq!(parse("fd:3").capabilities().keeps_boundaries, None);
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

#[test]
fn what_no_address_can_have_is_no_address_in_serde_either() {
    let error = serde_json::from_str::<Endpoint>("3")
        .unwrap_err()
        .to_string();
    assert!(error.contains("expected an address such as"), "{error}");
}

#[test]
fn an_impossible_queue_is_refused_when_it_is_described() {
    for (option, value) in [
        ("capacity", "0"),
        ("capacity", "65537"),
        ("max-message", "0"),
        ("max-message", "16777217"),
        ("priority", "32768"),
    ] {
        match problem(&format!("mq:/jobs?{option}={value}")) {
            AddressProblem::InvalidValue {
                option: o,
                value: v,
                ..
            } => assert_eq!((o, v.as_str()), (option, value)),
            other => panic!("{other}"),
        }
    }
    let largest = "mq:/jobs?capacity=65536&max-message=16777216&priority=32767";
    assert_eq!(parse(largest).to_string(), largest);
}

#[test]
fn synonyms_and_typing_mistakes_lead_to_the_scheme() {
    assert_eq!(nearest_scheme("pipe"), Some("fifo"));
    assert_eq!(nearest_scheme("fifi"), Some("fifo"));
    assert_eq!(nearest_scheme("http"), None);
}

#[test]
fn schemes_are_listed_in_order_with_sorted_options() {
    assert!(NAMES.is_sorted());
    for scheme in Endpoint::schemes() {
        assert!(scheme.options.is_sorted(), "{}", scheme.name);
        assert!(scheme.form.starts_with(scheme.name));
    }
}
