//! The Rust programs of the guide, in one binary. The name it is called by selects the program.

#![allow(unsafe_code)] // Of programs that claim inherited descriptors.

include!(concat!(env!("OUT_DIR"), "/programs.rs"));

type Start = fn() -> anyhow::Result<()>;

fn main() -> anyhow::Result<()> {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&called)
        .file_name()
        .unwrap_or_default();
    match PROGRAMS.iter().find(|(it, _)| name == *it) {
        Some((_, start)) => start(),
        None => {
            for (name, _) in PROGRAMS {
                println!("{name}");
            }
            Ok(())
        }
    }
}
