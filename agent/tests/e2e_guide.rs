//! docs/scripting.md is true: its scripts are checked and run, its commands too, and what it shows is what is printed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::guide::{blocks, is_printed};
use common::{remora, root};

/// Runs the commands of a console block in the folder; what they printed.
fn run(commands: &str, dir: &Path) -> String {
    let mut printed = String::new();
    for line in commands.lines() {
        if let Some(command) = line.strip_prefix("$ remora ") {
            let words = command.split_whitespace().map(|word| match word {
                word if dir.join(word).exists() => dir.join(word).display().to_string(),
                word => word.to_owned(),
            });
            let ran = remora(words).never_panicked();
            assert!(matches!(ran.code, 0 | 1), "{line}: {}", ran.stderr);
            printed += &(ran.stdout + &ran.stderr);
        } else if let Some(command) = line.strip_prefix("# remora tap ") {
            // Needs privileges: only its options are held against what there are.
            let help = remora(["tap", "--help"]).exits(0).stdout;
            let options = command.split_whitespace().filter(|word| word.starts_with("--"));
            options.for_each(|option| assert!(help.contains(option), "{option} of {line}"));
        } else {
            assert!(is_printed(line, &printed), "{line:?} is not printed:\n{printed}");
        }
    }
    printed.replace(&dir.display().to_string(), "")
}

#[test]
fn every_block_of_the_guide_works() {
    let guide = std::fs::read_to_string(root().join("docs/scripting.md")).unwrap();
    let blocks = blocks(&guide);
    assert!(blocks.iter().filter(|block| block.kind == "js").count() >= 8);
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("shop.pcap");
    std::fs::copy(root().join("tests/fixtures/shop/input.pcap"), &capture).unwrap();
    for (number, block) in blocks.iter().enumerate() {
        match block.kind.as_str() {
            "js" => {
                let unnamed = format!("block-{number}.js");
                let path = dir.path().join(block.name.as_ref().unwrap_or(&unnamed));
                std::fs::write(&path, &block.text).unwrap();
                let path = path.to_str().unwrap();
                let checked = remora(["scripts", "check", "--strict", path]);
                assert_eq!(checked.code, 0, "{}{}", checked.stdout, block.text);
                let variables = ["--env", "SLACK_AUTH_TOKEN=xoxb-1", "--env", "SLACK_CHANNEL_ID=C0123456789"];
                let args = ["scripts", "test", path, "--pcap", capture.to_str().unwrap()];
                let played = remora(args.into_iter().chain(variables));
                assert_eq!(played.code, 0, "{}{}{}", block.text, played.stdout, played.stderr);
            }
            "ini" => std::fs::write(dir.path().join(block.name.as_ref().unwrap()), &block.text).unwrap(),
            "console" => {
                run(&block.text, dir.path());
            }
            other => panic!("a block of {other:?}, which nothing tries"),
        }
    }
}
