//! `file`: what it does inside the data folder, and that nothing leads out of it.

use std::os::unix::fs::symlink;

use testkit::disk::{SmallDisk, with_own_mounts};

use crate::rig::{Rig, files_in};

#[test]
fn files_are_written_read_moved_copied_and_deleted() {
    let rig = Rig::new();
    let lines = rig.body(
        "file.write('a.txt', 'one'); file.append('a.txt', ' two'); file.append('new.txt', 5);\n\
         console.log(file.read('a.txt'), file.read('./new.txt'));\n\
         file.mkdir('x/y/z'); file.copy('a.txt', 'x/y/b.txt'); file.move('x/y', 'moved');\n\
         console.log(file.read('moved/b.txt'));\n\
         file.write('a.txt', 'short'); file.copy('a.txt', 'a.txt'); console.log(file.read('a.txt'));\n\
         file.delete('moved'); file.delete('moved'); file.delete('never/was'); file.delete('new.txt');\n\
         file.write('empty', ''); console.log('[' + file.read('empty') + ']');",
    );
    assert_eq!(lines, ["one two 5", "one two", "short", "[]"]);
    assert_eq!(files_in(&rig.data()), ["a.txt", "empty", "x"]);
}

#[test]
fn temporary_files_and_folders_are_new_and_inside() {
    let rig = Rig::new();
    let lines = rig.body(
        "var one = file.temp('data', '', 'json'), two = file.temp('data', '', ''), dir = file.mkdirTemp('d');\n\
         var three = file.temp('x', dir, '.csv'), four = file.mkdirTemp(), five = file.mkdirTemp('sub', dir);\n\
         file.write(one, '{}'); console.log(file.read(one));\n\
         [one, two, dir, three, four, five].forEach(path => console.log(path))",
    );
    let data = rig.data().canonicalize().unwrap();
    let data = data.to_str().unwrap();
    assert_eq!(lines[0], "{}");
    assert!(lines[1].starts_with(&format!("{data}/data-")) && lines[1].ends_with(".json"));
    assert!(lines[2].ends_with(".txt"), "no extension means txt");
    assert!(lines[4].starts_with(&format!("{}/x-", lines[3])) && lines[4].ends_with(".csv"));
    assert!(lines[5].starts_with(&format!("{data}/dir-")));
    assert!(lines[6].starts_with(&format!("{}/sub-", lines[3])));
    assert!(lines[1..].iter().all(|path| std::path::Path::new(path).exists()));
}

/// A real file system of 1 MiB, in a mount namespace of this thread's own, which others have filled.
#[test]
fn on_a_disk_that_others_filled_a_write_fails_and_the_next_may_not() {
    with_own_mounts(|| {
        let rig = Rig::new();
        let data = rig.dir.path().join("data");
        let _disk = SmallDisk::over(&data, 1).unwrap();
        rig.body("file.write('kept', 'as it was'); file.write('log', 'one\\n')");
        let others = data.join("others");
        let _ = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&others).unwrap());
        for (call, cause) in [
            ("file.write('new', 'x'.repeat(9000))", "file.write: path: \"new\": No space left on device"),
            ("file.append('log', 'x'.repeat(9000))", "file.append: path: \"log\": No space left on device"),
            ("file.copy('kept', 'copy')", "file.copy: "),
            ("file.write(file.temp('t', '', ''), 'text')", "No space left on device"),
        ] {
            let thrown = rig.thrown(call);
            assert!(thrown.contains(cause), "{call}: {thrown}");
        }
        assert_eq!(
            rig.body("console.log(file.read('kept'), file.read('log').slice(0, 4))"),
            ["as it was one\\n"]
        );
        // With room again it works again, and what failed is not counted for.
        std::fs::remove_file(others).unwrap();
        rig.body("file.write('new', 'x'.repeat(9000)); file.write('log', 'two')");
        assert_eq!(rig.body("console.log(file.read('new').length, file.read('log'))"), ["9000 two"]);
    });
}

#[test]
fn tar_packs_a_folder() {
    let rig = Rig::new();
    let lines = rig.body(
        "file.mkdir('in/sub'); file.write('in/b', 'B'); file.write('in/sub/a', 'A'.repeat(10000));\n\
         console.log(file.tar('in')); console.log(file.tar(''))",
    );
    for (archive, expected) in [
        (&lines[0], "b 1, sub 0, sub/a 10000".to_owned()),
        (
            &lines[1],
            format!("in 0, in/b 1, in/sub 0, in/sub/a 10000, {} *", lines[0].rsplit('/').next().unwrap()),
        ),
    ] {
        assert!(archive.ends_with(".tar.gz"));
        let gz = flate2::read::GzDecoder::new(std::fs::File::open(archive).unwrap());
        let mut archive = tar::Archive::new(gz);
        let entries: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let size = if name.ends_with(".gz") { "*".to_owned() } else { entry.size().to_string() };
                format!("{name} {size}")
            })
            .collect();
        assert_eq!(entries.join(", "), expected);
    }
}

#[test]
fn pcaps_may_be_read_and_copied_but_not_changed() {
    let rig = Rig::new();
    let lines = rig.body(
        "var path = pcap.path(data.stream); file.copy(path, 'mine.pcap'); console.log(file.tar('').length > 0);\n\
         var failures = 0;\n\
         [() => file.write(path, 'x'), () => file.append(path, 'x'), () => file.delete(path), () => file.move(path, 'b'),\n\
          () => file.move('mine.pcap', path), () => file.copy('mine.pcap', path), () => file.mkdir(path + 'd'),\n\
          () => file.temp('x', path.replace(/[^/]*$/, ''), 'y')]\n\
           .forEach(f => { try { f() } catch (e) { if (/may only be read/.test(e.message)) failures++; else console.log(e.message) } });\n\
         console.log(failures)",
    );
    assert_eq!(lines, ["true", "8"]);
    assert_eq!(std::fs::read(rig.data().join("mine.pcap")).unwrap(), b"\xd4\xc3\xb2\xa1 packets");
    assert!(
        rig.thrown("file.read('mine.pcap')").ends_with("file.read: path: \"mine.pcap\" is not UTF-8 text"),
        "bytes are not text"
    );
}

#[test]
fn a_redacted_copy_is_asked_for_in_so_many_words() {
    let rig = Rig::new();
    let lines = rig.body(
        "console.log(file.read(pcap.path('1', {redact: true})));\n\
         console.log(/redacted/.test(pcap.path('1')), /redacted/.test(pcap.path('1', {redact: false})), /redacted/.test(pcap.path('1', {})))",
    );
    assert_eq!(lines, ["[true, false, false]", "false false false"]);
    // What was meant to be redacted must not go out raw.
    for (options, part) in [
        ("{redacted: true}", "options: has no \"redacted\""),
        ("{redact: 1}", "options: redact is not true or false"),
        ("true", "options: is no object"),
    ] {
        let thrown = rig.thrown(&format!("pcap.path('1', {options})"));
        assert!(thrown.contains(part), "{thrown}");
    }
}

#[test]
fn no_path_leads_out() {
    let rig = Rig::new();
    let secret = rig.dir.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::create_dir(rig.dir.path().join("data/other.js")).unwrap();
    std::fs::create_dir(rig.data()).unwrap();
    symlink(&secret, rig.data().join("link")).unwrap();
    symlink(rig.dir.path(), rig.data().join("up")).unwrap();
    symlink(&secret, rig.dir.path().join("pcaps/link.pcap")).unwrap();
    symlink("/proc/self/root", rig.data().join("root")).unwrap();
    let absolute = secret.to_str().unwrap();
    let pcap_link = rig.dir.path().join("pcaps/link.pcap");
    let pcap_up = rig.dir.path().join("pcaps/../secret");
    for path in [
        absolute,
        "../../secret",
        "x/../../../secret",
        "link",
        "up/secret",
        "root/etc/passwd",
        "/etc/passwd",
        "/proc/self/environ",
        "../other.js/x",
        "a\\0b",
        pcap_link.to_str().unwrap(),
        pcap_up.to_str().unwrap(),
    ] {
        for call in [
            format!("file.read('{path}')"),
            format!("file.write('{path}', 'x')"),
            format!("file.append('{path}', 'x')"),
            format!("file.copy('{path}', 'in')"),
            format!("file.tar('{path}')"),
            format!("vendor.slackBot('t','c','p','t','c',{{}},{{f:'{path}'}})"),
        ] {
            let said = rig.thrown(&call);
            assert!(
                said.contains("leaves the script's data folder")
                    || said.contains("may only be read")
                    || said.contains("not a directory"),
                "{call}: {said}"
            );
        }
    }
    for call in [
        "file.write('in', 'x'); file.copy('in', 'up/secret')",
        "file.write('in', 'x'); file.move('in', 'up/secret')",
        "file.delete('up/secret')",
        "file.mkdir('up/new')",
        "file.temp('x', 'up', 'txt')",
        "file.mkdirTemp('x', 'up')",
        "file.temp('../x', '', 'txt')",
        "file.temp('x', '', '/../../y')",
        "file.mkdirTemp('/x')",
    ] {
        let said = rig.thrown(call);
        assert!(said.contains("leaves the script's data folder"), "{call}: {said}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(files_in(rig.dir.path()), ["data", "pcaps", "scripts", "secret"]);
    // A link itself may be removed: that changes nothing outside.
    rig.body("file.delete('link'); file.delete('up'); file.delete('root')");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(files_in(&rig.data()), ["in"]);
}

#[test]
fn arguments_and_causes_are_named() {
    let rig = Rig::new();
    rig.body("file.write('f', 'x'); file.mkdir('d/e')");
    for (call, message) in [
        ("file.write()", "TypeError: file.write: argument 1 (path) is missing"),
        ("file.write('a')", "TypeError: file.write: argument 2 (text) is missing"),
        ("file.write('a', {})", "TypeError: file.write: argument 2 (text) must be a string, not an object"),
        ("file.append('a')", "TypeError: file.append: argument 2 (text) is missing"),
        ("file.read()", "TypeError: file.read: argument 1 (path) is missing"),
        ("file.read('gone')", "Error: file.read: path: \"gone\": No such file or directory (os error 2)"),
        ("file.read('d')", "Error: file.read: path: \"d\" is not a file"),
        ("file.write('d', 'x')", "Error: file.write: path: \"d\": Is a directory (os error 21)"),
        ("file.write('', 'x')", "Error: file.write: path: \"\" is the data folder itself"),
        ("file.move('f')", "TypeError: file.move: argument 2 (new) is missing"),
        (
            "file.move('gone', 'x')",
            "Error: file.move: old, new: \"gone\": No such file or directory (os error 2)",
        ),
        ("file.move('f', 'd/e')", "Error: file.move: old, new: \"f\": Is a directory (os error 21)"),
        ("file.copy('f')", "TypeError: file.copy: argument 2 (dst) is missing"),
        ("file.copy('d', 'x')", "Error: file.copy: src, dst: \"d\" is not a file"),
        ("file.delete()", "TypeError: file.delete: argument 1 (path) is missing"),
        ("file.delete('.')", "Error: file.delete: path: \".\" is the data folder itself"),
        ("file.mkdir()", "TypeError: file.mkdir: argument 1 (path) is missing"),
        ("file.mkdir('f/x')", "Error: file.mkdir: path: \"f/x\": Not a directory (os error 20)"),
        (
            "file.mkdirTemp('x', 'gone')",
            "Error: file.mkdirTemp: name, dir: \"gone\": No such file or directory (os error 2)",
        ),
        ("file.temp('x')", "TypeError: file.temp: argument 2 (dir) is missing"),
        ("file.temp('x', '')", "TypeError: file.temp: argument 3 (extension) is missing"),
        ("file.tar()", "TypeError: file.tar: argument 1 (dir) is missing"),
        ("file.tar('f')", "Error: file.tar: dir: \"f\": not a directory"),
        (
            "file.mkdir('a/'.repeat(40))",
            &format!("Error: file.mkdir: path: {:?} lies more than 32 folders deep", "a/".repeat(40)),
        ),
    ] {
        assert_eq!(rig.thrown(call), message, "{call}");
    }
}

#[test]
fn the_quota_holds_and_deleting_makes_room() {
    let mut rig = Rig::new();
    rig.limits.file_quota = 64 << 10;
    let quota = "the script's quota of 64 KiB is used up";
    assert!(rig.thrown("file.write('big', 'x'.repeat(70000))").contains(quota));
    assert!(rig.thrown("for (;;) file.append('grows', 'x'.repeat(3000))").contains(quota));
    assert!(std::fs::metadata(rig.data().join("grows")).unwrap().len() <= 64 << 10);
    assert_eq!(rig.thrown("file.delete('grows'); file.write('a', 'x'.repeat(60000))"), "nothing thrown");
    assert!(rig.thrown("file.copy('a', 'b')").contains(quota), "what an earlier run left counts");
    assert_eq!(rig.thrown("file.write('a', 'y'.repeat(60000))"), "nothing thrown", "rewriting takes no more");
    assert_eq!(rig.thrown("file.delete('a')"), "nothing thrown");
    for many in
        ["file.temp('t', '', '')", "file.mkdirTemp()", "file.mkdir('d' + n)", "file.write('e' + n, '')"]
    {
        let said = rig.thrown(&format!("for (var n = 0; n < 100; n++) {many}"));
        assert!(said.contains(quota), "empty files and folders are not free: {many}: {said}");
        assert_eq!(files_in(&rig.data()).len(), 16);
        std::fs::remove_dir_all(rig.data()).unwrap();
    }
    let said = rig.thrown(
        "var s = ''; for (var i = 0; i < 5000; i++) s += Math.random(); file.write('a', s.slice(0, 45000)); file.tar('')",
    );
    assert!(said.contains(quota), "{said}");
    assert_eq!(files_in(&rig.data()), ["a"], "no half archive stays");
}

#[test]
fn folders_cannot_be_nested_without_end_by_moving() {
    let rig = Rig::new();
    let said = rig.thrown("for (var i = 0; i < 200; i++) { file.mkdir('n'); file.mkdir('m'); file.move('n', 'm/n'); file.move('m', 'n') }");
    assert!(said.contains("lies more than 32 folders deep"), "{said}");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_an_error_of_the_call() {
    let rig = Rig::new();
    std::fs::write(rig.data(), "a file is in the way").unwrap();
    let said = rig.thrown("file.write('a', 'b')");
    assert!(said.contains("file.write: path: the script's data folder cannot be made: "), "{said}");
}
