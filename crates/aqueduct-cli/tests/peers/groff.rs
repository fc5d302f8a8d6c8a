//! The manual pages, read by what `man` reads them with.

use std::process::Command;

use crate::support::{aqueduct, expect_text, run, start_with_input};

#[test]
fn no_manual_page_has_anything_that_groff_warns_of() {
    for command in [
        &[][..],
        &["send"],
        &["recv"],
        &["serve"],
        &["call"],
        &["talk"],
        &["proxy"],
        &["list"],
        &["mq", "create"],
    ] {
        let page = expect_text(run(aqueduct(&["man"]).args(command)), 0);
        let mut groff = Command::new("groff");
        groff.args(["-man", "-ww", "-Tutf8", "-P-cbou"]);
        let text = expect_text(start_with_input(&mut groff, page).finish(), 0);
        let name = [&["aqueduct"], command].concat().join(" ");
        assert!(
            text.contains(&name) && text.contains("EXAMPLES") || command.is_empty(),
            "{text}"
        );
    }
}
