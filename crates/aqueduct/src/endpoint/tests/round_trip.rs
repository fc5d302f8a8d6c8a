//! Printing an endpoint and parsing the result gives an equal endpoint.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_endpoint(endpoint in endpoints()) {
        let printed = endpoint.to_string();
        let parsed = printed.parse::<Endpoint>();
        prop_assert_eq!(parsed.as_ref(), Ok(&endpoint), "{}", printed);
        prop_assert_eq!(parsed.unwrap().to_string(), printed.as_str());
        prop_assert!(!printed.chars().any(char::is_control), "{:?}", printed);
        // The long form of the same address.
        let (scheme, rest) = printed.split_once(':').unwrap();
        let long = format!("{scheme}://{}", rest.strip_prefix("//").unwrap_or(rest));
        prop_assert_eq!(long.parse::<Endpoint>(), Ok(endpoint));
    }

    #[test]
    fn a_path_keeps_its_bytes(path in paths()) {
        let endpoint = Endpoint::new("fifo", &path).unwrap();
        let parsed: Endpoint = endpoint.to_string().parse().unwrap();
        prop_assert_eq!(parsed.path().unwrap().as_os_str(), path.as_os_str());
    }

    #[test]
    fn no_address_makes_the_parser_panic(address in "\\PC*", bytes in bytes(60)) {
        let _ = address.parse::<Endpoint>();
        for scheme in NAMES {
            let _ = format!("{scheme}:{address}").parse::<Endpoint>();
            let mut raw = format!("{scheme}:").into_bytes();
            raw.extend_from_slice(&bytes);
            if let Err(error) = Endpoint::try_from(OsString::from_vec(raw)) {
                prop_assert!(!error.to_string().chars().any(char::is_control));
            }
        }
    }
}

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

/// A subset of the offered options, each with a value.
fn with_options(
    base: impl Strategy<Value = Endpoint>,
    options: &'static [(&'static str, &'static str)],
) -> impl Strategy<Value = Endpoint> {
    let values: Vec<_> = options
        .iter()
        .map(|(name, pattern)| prop::option::of(pattern.prop_map(move |it| format!("{name}={it}"))))
        .collect();
    (base, values).prop_map(|(base, values)| {
        let query: Vec<_> = values.into_iter().flatten().collect();
        let base = base.to_string();
        match query.is_empty() {
            true => base,
            false => format!("{base}?{}", query.join("&")),
        }
        .parse()
        .unwrap()
    })
}

fn endpoints() -> impl Strategy<Value = Endpoint> {
    const MODE: (&str, &str) = ("mode", "[0-7]{1,3}");
    const CREATE: (&str, &str) = ("create", "true|false");
    const FRAME: (&str, &str) = ("frame", "lines|crlf|nul|raw|length|u8|u16le[+]header|cobs");
    const GROUP: (&str, &str) = ("group", "[a-z0-9_.-]([a-z $]|%26|%25|%3F){0,5}");
    let at = |scheme: &'static str| move |rest: PathBuf| Endpoint::new(scheme, rest).unwrap();
    let abstract_name = prop::collection::vec(any::<u8>(), 1..=107).prop_map(|name| {
        let name = [b"@", name.as_slice()].concat();
        PathBuf::from(OsString::from_vec(name))
    });
    let socket = prop_oneof![
        // A leading at sign makes a name abstract, and an at sign alone is invalid.
        paths().prop_filter("a name", |it| !it.as_os_str().as_bytes().starts_with(b"@")),
        abstract_name,
    ];
    let host = prop_oneof![
        "[a-z0-9_][a-zA-Z0-9._-]{0,20}",
        any::<std::net::Ipv4Addr>().prop_map(|it| it.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|it| format!("[{it}]")),
        Just("[fe80::1%25eth0]".to_owned()),
    ];
    let ip = |scheme: &'static str, host| {
        (host, any::<u16>())
            .prop_map(move |(host, port)| format!("{scheme}://{host}:{port}").parse().unwrap())
    };
    let word = || {
        bytes(12).prop_map(|it| {
            let mut escaped = String::new();
            escape::encode(&it, b" '\"\\\t\n", &mut escaped);
            escaped
        })
    };
    let command = prop::collection::vec(prop_oneof![4 => word(), 1 => Just("''".into())], 0..4);
    let exec = (word(), command).prop_map(|(program, args): (String, Vec<String>)| {
        format!("exec:{program} {}", args.join(" "))
            .parse()
            .unwrap()
    });
    prop_oneof![
        with_options(
            paths().prop_map(at("fifo")),
            &[CREATE, FRAME, GROUP, MODE, ("persist", "true|false")]
        ),
        with_options(
            "/[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}".prop_map(|it| Endpoint::new("mq", it).unwrap()),
            &[
                ("capacity", "[1-9][0-9]{0,3}"),
                CREATE,
                ("driver", "pool|asyncfd"),
                ("max-message", "[1-9][0-9]{0,6}"),
                MODE,
                ("priority", "[0-9]{1,4}"),
            ]
        ),
        with_options(socket.clone().prop_map(at("unix")), &[FRAME, MODE]),
        with_options(socket.clone().prop_map(at("unixpacket")), &[MODE]),
        with_options(socket.prop_map(at("unixgram")), &[MODE]),
        with_options(ip("tcp", host.clone()), &[FRAME, ("nodelay", "true|false")]),
        with_options(ip("udp", host), &[]),
        with_options(
            (0..=i32::MAX).prop_map(|it| format!("fd:{it}").parse().unwrap()),
            &[FRAME]
        ),
        with_options(Just("stdio:".parse().unwrap()), &[FRAME]),
        with_options(exec, &[FRAME]),
    ]
}
