//! The whole way: every case between two processes, and the report made of it.

use std::process::Command;

use aqueduct_measure::{Results, implementations};

fn run(args: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_aqueduct-bench");
    let output = Command::new(program).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_case_moves_messages_and_is_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let out = dir.path().to_str().unwrap();
    let goals = run(&["--quick", "--repetitions", "1", "--out", out]);
    let results: Results =
        serde_json::from_slice(&std::fs::read(path("results.json")).unwrap()).unwrap();
    for missing in &results.missing {
        // Large queues may not be allowed here; other libraries are not in this program.
        let known = missing.reason.contains("fs.mqueue") || missing.case == "other libraries";
        assert!(known, "{missing:?}");
    }
    let [markdown, html] =
        ["report.md", "report.html"].map(|it| std::fs::read_to_string(path(it)).unwrap());
    for case in implementations::all() {
        assert!(
            results.figures.iter().any(|it| it.case == case.name),
            "{case}"
        );
        assert!(markdown.contains(&format!("\n| {case} | ")), "{case}");
        assert!(html.contains(&format!(">{case}</text>")), "{case}");
    }
    // The page needs nothing from elsewhere.
    assert!(!html.contains("src=") && !html.contains("href="), "{html}");

    let json = path("results.json");
    assert!(goals.starts_with(&run(&["goals", &json])), "{goals}");
    let changed = run(&["compare", &json, &json]);
    let same = format!(
        "{} within the noise, 0 only in the second.\n",
        results.figures.len()
    );
    assert_eq!(changed, same);
}
