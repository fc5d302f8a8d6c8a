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
    let document = path("DOCUMENT.md");
    let places = "a\n<!-- in short -->\nold\n<!-- end -->\nb\n<!-- report -->\n<!-- end -->\nc\n";
    std::fs::write(&document, places).unwrap();
    run(&["render", &json, "--into", &document, "--pictures", out]);
    for name in ["speed-light.svg", "speed-dark.svg"] {
        let svg = std::fs::read_to_string(path(name)).unwrap();
        assert!(svg.contains(">Unix socket</text>"), "{svg}");
        assert_eq!(svg.matches("<rect ").count(), 4 + 4 * 4);
    }
    let text = std::fs::read_to_string(&document).unwrap();
    let (short, whole) = text.split_once("\nb\n<!-- report -->\n").unwrap();
    assert!(short.starts_with("a\n<!-- in short -->\n| 64 B |") && !short.contains("old"));
    assert_eq!(whole, format!("{markdown}<!-- end -->\nc\n"));
    let costs = [
        "| mq | ",
        "\n## Processes that all send",
        "\n## The receiver's processor time",
        "\n## Up to ten thousand idle connections",
    ];
    for part in costs {
        assert!(markdown.contains(part), "{part}");
    }

    assert!(goals.starts_with(&run(&["goals", &json])), "{goals}");
    let changed = run(&["compare", &json, &json]);
    let same = format!(
        "{} within the noise, 0 only in the second.\n",
        results.figures.len()
    );
    assert_eq!(changed, same);
}

#[test]
fn one_case_says_what_it_gave() {
    let line = run(&[
        "one",
        "aqueduct/pipe/feed",
        "--size",
        "1024",
        "--seconds",
        "0",
    ]);
    let fields: Vec<_> = line.trim_end().split(" | ").collect();
    let [case, step, rate, cpu] = fields[..] else {
        panic!("{line}")
    };
    assert_eq!(case, "aqueduct/pipe/feed");
    assert_eq!(step, "1 KiB one way, one processor");
    assert!(rate.parse::<f64>().unwrap() > 0.0, "{line}");
    assert!(cpu.parse::<f64>().unwrap() >= 0.0, "{line}");
}

#[test]
fn a_case_that_is_not_there_is_named() {
    let program = env!("CARGO_BIN_EXE_aqueduct-bench");
    let output = Command::new(program).args(["one", "raw/smoke"]).output();
    let output = output.unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("there is no case \"raw/smoke\""),
        "{stderr}"
    );
}
