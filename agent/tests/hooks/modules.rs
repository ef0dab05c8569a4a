//! How scripts start: kinds, hooks, modules, and what is said of those that do not.

use std::time::Duration;

use agent::hooks::{ScriptKind, check};

use crate::rig::{PATIENCE, Rig, item};

#[test]
fn a_script_that_does_not_compile_is_reported_with_line_and_column() {
    let rig = Rig::new();
    for (text, position, message) in [
        ("var a = 1;\nfunction x( {\n", ":3:1", "SyntaxError"),
        ("let a = 1;\nlet a = 2;\n", ":2:7", "invalid redefinition"),
        ("if (x) {\n  y(;\n}", ":2:5", "SyntaxError"),
        ("export function onItemCaptured() {\n  let = ;\n}", ":2:", "SyntaxError"),
    ] {
        let path = rig.script("a.js", text);
        let (scripts, failures) = rig.load(std::slice::from_ref(&path));
        assert!(scripts.is_empty());
        let said = failures[0].to_string();
        assert!(said.starts_with(&format!("{}{position}", path.display())), "{said}");
        assert!(said.contains(message), "{said}");
        assert_eq!(check(&path).unwrap_err(), failures[0], "check says the same");
    }
}

#[test]
fn a_script_whose_top_level_fails_is_reported() {
    let mut rig = Rig::new();
    rig.limits.call_time = Duration::from_millis(100);
    for (text, position, message) in [
        ("\nnull.x", ":2:1", "its top level threw TypeError: cannot read property 'x' of null"),
        ("\nwhile (true) {}", ":2:1", "its top level exceeded its time limit of 100 ms"),
        (
            "import './a2.js';\nundefinedName;",
            ":2:1",
            "its top level threw ReferenceError: undefinedName is not defined",
        ),
        ("await new Promise(() => {})", "", "its top-level await never comes to an end"),
        ("var a\0;", "", "null bytes"),
    ] {
        rig.script("a2.js", "");
        let path = rig.script("a.js", text);
        let (scripts, failures) = rig.load(std::slice::from_ref(&path));
        assert!(scripts.is_empty(), "{text}");
        let said = failures[0].to_string();
        assert!(said.starts_with(&format!("{}{position}: ", path.display())), "{said}");
        assert!(said.contains(message), "{said}");
    }
    let (_, failures) = rig.load(&[rig.dir.path().join("scripts/missing.js")]);
    assert!(failures[0].to_string().contains("missing.js: cannot be read: No such file"), "{failures:?}");
}

#[test]
fn hooks_are_found_however_they_are_written() {
    for text in [
        "function onItemCaptured(d) { console.log('called') }",
        "var onItemCaptured = function (d) { console.log('called') }",
        "const onItemCaptured = (d) => console.log('called')",
        "let onItemCaptured = async (d) => console.log('called')",
        "globalThis.onItemCaptured = d => console.log('called')",
        "onItemCaptured = d => console.log('called')",
        "export function onItemCaptured(d) { console.log('called') }",
        "export default 1; function onItemCaptured(d) { console.log('called') }",
        "export const onItemCaptured = (d) => console.log('called') // no newline",
        "var x = await 1; const onItemCaptured = () => console.log('called')",
    ] {
        let rig = Rig::new();
        let stats = rig.run(text, 1);
        assert_eq!((stats.calls, rig.log.console()), (1, vec!["called".to_owned()]), "{text}");
        assert!(rig.log.about().is_empty(), "{text}: {:?}", rig.log.about());
    }
}

#[test]
fn sloppy_scripts_stay_sloppy() {
    let rig = Rig::new();
    assert_eq!(rig.body("leaked = 010; console.log(leaked, typeof this)"), ["8 object"]);
}

#[test]
fn a_script_without_a_hook_costs_nothing_and_is_told() {
    let rig = Rig::new();
    let (scripts, _) = rig.load(&[
        rig.script("a.js", "var onItemCaptured = 5;"),
        rig.script("b.js", "function onItemQueried() {}"),
    ]);
    assert!(!scripts.wants_items());
    scripts.deliver(&item(0));
    assert!(scripts.drain(PATIENCE));
    assert!(scripts.stats().iter().all(|stats| stats.calls == 0));
    assert_eq!(
        rig.log.about(),
        [
            "script a.js: defines no hook and no job, so it will not be called",
            "script b.js: defines onItemQueried, which this version does not call",
        ]
    );
}

#[test]
fn modules_come_from_the_scripts_folder_only() {
    let rig = Rig::new();
    rig.script("lib.js", "import { two } from './lib2.mjs';\nexport const answer = () => 40 + two;");
    rig.script("lib2.mjs", "export const two = 2;");
    let stats =
        rig.run("import { answer } from './lib.js';\nfunction onItemCaptured() { console.log(answer()) }", 1);
    assert_eq!(stats.errors, 0);
    assert_eq!(rig.log.console(), ["42"]);

    std::fs::write(rig.dir.path().join("outside.js"), "export const x = 1;").unwrap();
    let scripts = rig.dir.path().join("scripts");
    std::os::unix::fs::symlink("../outside.js", scripts.join("link.js")).unwrap();
    std::os::unix::fs::symlink("lib2.mjs", scripts.join("inner.js")).unwrap();
    for (import, message) in [
        ("../outside.js", "a module is a file beside the script"),
        ("/etc/passwd", "a module is a file beside the script"),
        ("./sub/../../outside.js", "a module is a file beside the script"),
        ("fs", "a module is a file beside the script"),
        ("std", "a module is a file beside the script"),
        ("./link.js", "leads out of the script's folder"),
        ("./missing.js", "No such file"),
    ] {
        let path = rig.script("a.js", &format!("import '{import}';\nexport function onItemCaptured() {{}}"));
        let (_, failures) = rig.load(&[path]);
        assert!(failures[0].to_string().contains(message), "{import}: {failures:?}");
    }
    assert_eq!(
        rig.load(&[
            rig.script("a.js", "import { two } from './inner.js';\nexport function onItemCaptured() {}")
        ])
        .1,
        [],
        "a link inside the folder is fine"
    );
    rig.script("bad.js", "\n\nlet = ;");
    let (_, failures) = rig.load(&[rig.script("a.js", "import './bad.js'")]);
    assert!(failures[0].to_string().contains("bad.js:3:"), "the module at fault is named: {failures:?}");
}

#[test]
fn check_says_what_a_script_is() {
    let rig = Rig::new();
    let path = rig.script(
        "a.js",
        "// Alerts me\nvar dir = file.mkdirTemp('x').length;\nvendor.slack('a').b.c;\n\
         const onItemCaptured = () => {};\nfunction onItemQueried() {}",
    );
    let outline = check(&path).unwrap();
    assert_eq!(outline.title.as_deref(), Some("Alerts me"));
    assert_eq!(outline.kind, ScriptKind::Script);
    assert_eq!((outline.hooks, outline.uncalled_hooks), (vec!["onItemCaptured"], vec!["onItemQueried"]));
    assert_eq!(outline.remark, None);

    let outline = check(&rig.script("b.mjs", "function onItemCaptured() {}")).unwrap();
    assert_eq!((outline.kind, outline.hooks), (ScriptKind::Module, vec!["onItemCaptured"]));

    let outline = check(&rig.script("c.js", "function onItemCaptured() {}\nMISSING_TOKEN;")).unwrap();
    assert_eq!(outline.hooks, ["onItemCaptured"]);
    assert!(outline.remark.unwrap().starts_with("ReferenceError: MISSING_TOKEN"));
    assert!(!rig.data().exists(), "nothing was written");
}

#[test]
fn scripts_of_the_same_name_are_told_apart() {
    let rig = Rig::new();
    std::fs::create_dir(rig.dir.path().join("scripts/more")).unwrap();
    let text = "// Same\nfunction onItemCaptured() { file.write('mine', '1') }";
    let (scripts, failures) = rig.load(&[rig.script("a.js", text), rig.script("more/a.js", text)]);
    assert_eq!(failures, []);
    scripts.deliver(&item(0));
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.shutdown(PATIENCE);
    assert_eq!(stats.iter().map(|stats| stats.name.as_str()).collect::<Vec<_>>(), ["a.js", "more/a.js"]);
    assert_eq!(stats[0].title.as_deref(), Some("Same"));
    for folder in ["a.js", "more_a.js"] {
        assert!(rig.dir.path().join("data").join(folder).join("mine").exists());
    }
}
