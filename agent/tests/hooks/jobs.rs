//! `jobs`: when they run, what they are told, what ends them.

use std::time::{Duration, Instant};

use agent::hooks::Scripts;

use crate::rig::{PATIENCE, Rig, item};

/// A pattern that never comes while a test runs.
const NEVER: &str = "0 0 0 29 2 *";

fn load(rig: &Rig, text: &str) -> Scripts {
    let (scripts, failures) = rig.load(&[rig.script("a.js", text)]);
    assert_eq!(failures, []);
    scripts
}

/// Waits until the script has logged so many lines.
fn wait_for(rig: &Rig, lines: usize) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    while rig.log.console().len() < lines && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.log.console()
}

#[test]
fn a_job_runs_each_second_with_its_arguments_until_its_limit() {
    let rig = Rig::new();
    let scripts = load(
        &rig,
        "jobs.schedule('tick', '* * * * * *', (a, b) => console.log('tick', Date.now(), a, b.c), 2, 'x', { c: 5 });\n\
         function onJobPassed(tag, cron, limit) { console.log('passed', tag, cron, limit, jobs.list()) }",
    );
    let lines = wait_for(&rig, 4);
    let time = |line: &str| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    assert!(lines[0].starts_with("tick ") && lines[0].ends_with(" x 5"), "{lines:?}");
    assert_eq!(lines[1], r#"passed tick * * * * * * 2 ["tick"]"#);
    assert_eq!(lines[3], "passed tick * * * * * * 2 []", "the last run ends it");
    assert!(time(&lines[2]) / 1000 > time(&lines[0]) / 1000, "another second: {lines:?}");
    let stats = scripts.shutdown(PATIENCE).remove(0);
    assert_eq!((stats.jobs_passed, stats.jobs_failed, stats.calls, stats.errors), (2, 0, 4, 0));
    assert!(rig.log.about().is_empty(), "a script of jobs alone is no mistake: {:?}", rig.log.about());
}

#[test]
fn run_runs_after_the_call_at_hand_and_counts_towards_the_limit() {
    let rig = Rig::new();
    rig.run(
        &format!(
            "jobs.schedule('one', '{NEVER}', () => console.log('one'), 2);\n\
             function onItemCaptured(data) {{ console.log('item', data.index); jobs.run('one'); jobs.run('one') }}"
        ),
        3,
    );
    assert_eq!(
        rig.log.console(),
        ["item 0", "one", "item 1", "one", "item 2"],
        "asked for twice in a call is once; then it was gone, and asking is an error"
    );
    assert!(rig.log.about()[0].contains("jobs.run: tag: no job of the name \"one\" is scheduled"));
}

#[test]
fn a_job_that_asks_for_itself_leaves_room_for_items() {
    let rig = Rig::new();
    rig.run(
        &format!(
            "var n = 0; jobs.schedule('again', '{NEVER}', () => {{ n++; jobs.run('again') }}); jobs.run('again');\n\
             function onItemCaptured(data) {{ console.log(data.index, n > data.index) }}"
        ),
        3,
    );
    assert_eq!(rig.log.console(), ["0 true", "1 true", "2 true"]);
}

#[test]
fn what_goes_wrong_in_a_job_is_told_and_ends_no_other() {
    let mut rig = Rig::new();
    rig.limits.call_time = Duration::from_millis(100);
    let stats = rig.run(
        &format!(
            "jobs.schedule('throws', '{NEVER}', () => {{ throw new TypeError('bad') }});\n\
             jobs.schedule('loops', '{NEVER}', () => {{ for (;;); }});\n\
             jobs.schedule('later', '{NEVER}', async () => {{ await null; throw 'late' }});\n\
             jobs.schedule('good', '{NEVER}', () => console.log('good'));\n\
             function onJobFailed(tag, cron, limit, err) {{ console.log(tag, cron === '{NEVER}', limit, err) }}\n\
             function onItemCaptured() {{ jobs.runAll() }}"
        ),
        1,
    );
    assert_eq!(
        rig.log.console(),
        [
            "throws true 0 TypeError: bad",
            "loops true 0 it exceeded its time limit of 100 ms",
            "later true 0 late",
            "good",
        ]
    );
    assert_eq!((stats.jobs_passed, stats.jobs_failed, stats.timeouts, stats.errors), (1, 3, 1, 3));
    let about = rig.log.about();
    assert!(about[0].starts_with("script a.js: job \"throws\" threw TypeError: bad at"), "{about:?}");
    assert!(about[1].contains("job \"loops\" exceeded its time limit of 100 ms at a.js:2"), "{about:?}");
}

#[test]
fn tags_replace_are_listed_and_removed() {
    let rig = Rig::new();
    let lines = rig.body(&format!(
        "const log = text => () => console.log(text);\n\
         jobs.schedule('a', '{NEVER}', log('old')); jobs.schedule('b', '{NEVER}', log('b'));\n\
         jobs.schedule('a', '{NEVER}', log('new')); jobs.schedule(3, '{NEVER}', log('c'));\n\
         jobs.run('a'); console.log(jobs.list()); jobs.remove('b'); jobs.remove('never was');\n\
         console.log(jobs.list())"
    ));
    assert_eq!(lines, [r#"["a","b","3"]"#, r#"["a","3"]"#, "new"]);
    let lines = rig.body(&format!(
        "jobs.schedule('a', '{NEVER}', () => console.log('never')); jobs.run('a'); jobs.removeAll(); console.log(jobs.list())"
    ));
    assert_eq!(lines, ["[]"], "a job that is removed before its time does not run");
}

#[test]
fn a_stopped_scheduler_runs_only_what_is_asked_for() {
    let rig = Rig::new();
    let scripts = load(
        &rig,
        &format!(
            "console.log(jobs.scheduler.isRunning()); jobs.scheduler.stop(); console.log(jobs.scheduler.isRunning());\n\
             jobs.schedule('tick', '* * * * * *', () => console.log('tick'));\n\
             jobs.schedule('asked', '{NEVER}', () => {{ console.log('asked'); jobs.scheduler.start() }});\n\
             function onItemCaptured() {{ jobs.run('asked') }}"
        ),
    );
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(rig.log.console(), ["true", "false"]);
    scripts.deliver(&item(0));
    assert_eq!(wait_for(&rig, 4)[2..], ["asked", "tick"]);
}

#[test]
fn jobs_end_with_their_script_and_are_bounded() {
    let mut rig = Rig::new();
    rig.limits.jobs = 3;
    let said = rig.thrown(&format!("for (var i = 0; i < 9; i++) jobs.schedule(i, '{NEVER}', () => 1)"));
    assert_eq!(said, "Error: jobs.schedule: 3 jobs are scheduled, the most a script may have");
    // After a limit that leaves the runtime unusable its jobs are the fresh one's.
    let rig = Rig::new();
    rig.run(
        &format!(
            "jobs.schedule('a', '{NEVER}', () => console.log('a'));\n\
             function onItemCaptured(data) {{\n\
               if (data.index) {{ jobs.run('a'); return }}\n\
               jobs.removeAll(); jobs.schedule('b', '{NEVER}', () => console.log('b')); jobs.run('b');\n\
               (function again() {{ Promise.resolve().then(again) }})() }}"
        ),
        2,
    );
    assert_eq!(rig.log.console(), ["a"]);
}

#[test]
fn arguments_and_causes_are_named() {
    let rig = Rig::new();
    for (call, message) in [
        ("jobs.schedule()", "TypeError: jobs.schedule: argument 1 (tag) is missing"),
        ("jobs.schedule('a')", "TypeError: jobs.schedule: argument 2 (cron) is missing"),
        ("jobs.schedule('a', '* * * * * *')", "TypeError: jobs.schedule: argument 3 (fn) is missing"),
        (
            "jobs.schedule('a', '* * * * * *', 'code')",
            "TypeError: jobs.schedule: argument 3 (fn) must be a function, not a value of another type",
        ),
        (
            "jobs.schedule('a', '* * * * * *', () => 1, -1)",
            "Error: jobs.schedule: limit: -1 is no whole number from 0",
        ),
        (
            "jobs.schedule('a', '* * * * * *', () => 1, '3')",
            "TypeError: jobs.schedule: argument 4 (limit) must be a number, not a value of another type",
        ),
        (
            "jobs.schedule('a', '0 0 0 30 2 *', () => 1)",
            "Error: jobs.schedule: cron: \"0 0 0 30 2 *\" never comes",
        ),
        (
            "jobs.schedule('x'.repeat(300), '* * * * * *', () => 1)",
            "Error: jobs.schedule: tag: is longer than 256 bytes",
        ),
        ("jobs.remove()", "TypeError: jobs.remove: argument 1 (tag) is missing"),
        ("jobs.run()", "TypeError: jobs.run: argument 1 (tag) is missing"),
        ("jobs.run('gone')", "Error: jobs.run: tag: no job of the name \"gone\" is scheduled"),
    ] {
        assert_eq!(rig.thrown(call), message, "{call}");
    }
    for pattern in ["* * * * *", "61 * * * * *", "soon", "* * * * * * *", ""] {
        let said = rig.thrown(&format!("jobs.schedule('a', '{pattern}', () => 1)"));
        assert!(
            said.starts_with(&format!("Error: jobs.schedule: cron: {pattern:?} is no cron pattern: ")),
            "{said}"
        );
        assert!(said.ends_with(
            "six fields are expected, seconds first, for example \"0 */5 * * * *\" for every five minutes"
        ));
    }
}
