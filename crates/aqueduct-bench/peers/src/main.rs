//! Aqueduct's benchmarks with other libraries in the same run, each in its natural fastest use.

mod iceoryx2;
mod interprocess;
mod ipc_channel;
mod kept;
#[cfg(feature = "cmake")]
mod nng;
mod remoc;
mod ringfire;
#[cfg(feature = "clang")]
mod tachyon;
mod tarpc;
mod zeromq;
#[cfg(feature = "cmake")]
mod zmq;

use aqueduct_bench::Built;
use aqueduct_measure::Case;
use aqueduct_measure::results::Missing;

/// Enough for a value of the benchmarks as Postcard has it.
const ROOM: usize = 128;

/// Those that are not here, and why.
const ABSENT: &[(&str, &str)] = &[
    #[cfg(not(feature = "cmake"))]
    (
        "zmq, nng",
        "their C++ and C is built from source, which takes a C++ compiler and cmake: build with \
         --features cmake",
    ),
    #[cfg(not(feature = "clang"))]
    (
        "tachyon-ipc",
        "its C++23 takes GCC 14 or Clang 17: set CXX to one, as in CXX=clang++-19, and build with \
         --features clang",
    ),
    (
        "async-mqueue",
        "the package registry has no crate of this name",
    ),
];

const BUILT: Built<'_> = Built {
    lock: include_str!("../Cargo.lock"),
    packages: &[
        "tokio",
        "tokio-util",
        "interprocess",
        "ipc-channel",
        "tarpc",
        "remoc",
        "zeromq",
        "iceoryx2",
        "ringfire",
        #[cfg(feature = "clang")]
        "tachyon-ipc",
        #[cfg(feature = "cmake")]
        "zmq",
        #[cfg(feature = "cmake")]
        "nng",
    ],
};

#[allow(unsafe_code)]
fn main() -> anyhow::Result<()> {
    // SAFETY: nothing in this program has opened a descriptor yet.
    unsafe { aqueduct::inherited::claim() };
    #[cfg_attr(not(any(feature = "cmake", feature = "clang")), expect(unused_mut))]
    let mut cases: Vec<Case> = [
        ipc_channel::CASES,
        interprocess::CASES,
        zeromq::CASES,
        tarpc::CASES,
        remoc::CASES,
        iceoryx2::CASES,
        ringfire::CASES,
    ]
    .concat();
    #[cfg(feature = "cmake")]
    cases.extend([zmq::CASES, nng::CASES].concat());
    #[cfg(feature = "clang")]
    cases.extend(tachyon::CASES.iter().cloned());
    let absent = ABSENT.iter().map(|(case, reason)| Missing {
        case: (*case).to_owned(),
        reason: (*reason).to_owned(),
    });
    aqueduct_bench::run(&cases, &absent.collect::<Vec<_>>(), BUILT)
}
