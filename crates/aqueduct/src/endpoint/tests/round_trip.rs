//! Whatever an endpoint holds, its address says it, and parses to it again.

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
    let driver = prop_oneof![
        Just(crate::mq::Driver::Pool),
        Just(crate::mq::Driver::AsyncFd)
    ];
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
