//! `jobs`: functions that the script's own thread calls at times of a cron pattern, between events.
//!
//! Patterns have six fields, seconds first, and are UTC. A time that passed while the thread was busy is made up for
//! once, however many times passed. Jobs live and die with the runtime that scheduled them: the functions kept here
//! must be released before it goes ([`Jobs::release`]).

use std::cell::RefCell;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use rquickjs::{Function, Persistent, Value};

use super::{Call, HelperResult, Host, Member};

pub(super) const MEMBERS: &[Member] = &[
    ("list", "jobs.list", list),
    ("remove", "jobs.remove", remove),
    ("removeAll", "jobs.removeAll", remove_all),
    ("run", "jobs.run", run),
    ("runAll", "jobs.runAll", run_all),
    ("schedule", "jobs.schedule", schedule),
];

pub(super) const SCHEDULER: &[Member] = &[
    ("isRunning", "jobs.scheduler.isRunning", |host, call| call.returns(!host.jobs.0.borrow().stopped)),
    ("start", "jobs.scheduler.start", start),
    ("stop", "jobs.scheduler.stop", stop),
];

/// Longest tag, in bytes.
const LONGEST_TAG: usize = 256;

/// The jobs of one runtime.
#[derive(Default)]
pub(crate) struct Jobs(RefCell<State>);

#[derive(Default)]
struct State {
    /// In the order in which they were scheduled.
    jobs: Vec<Job>,
    stopped: bool,
    next_id: u64,
}

struct Job {
    id: u64,
    tag: String,
    pattern: String,
    cron: Cron,
    /// How often it may run; 0: for ever.
    limit: u64,
    runs: u64,
    /// When it runs next; `None`: never again.
    next: Option<DateTime<Utc>>,
    /// `jobs.run` asked for it.
    asked: bool,
    function: Persistent<Function<'static>>,
    args: Vec<Persistent<Value<'static>>>,
}

/// One run of a job.
pub(crate) struct Run {
    pub(crate) tag: String,
    pub(crate) pattern: String,
    pub(crate) limit: u64,
    pub(crate) function: Persistent<Function<'static>>,
    pub(crate) args: Vec<Persistent<Value<'static>>>,
}

impl Jobs {
    /// How many are scheduled.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().jobs.len()
    }

    /// How long until the next one is due; `None`: none will be.
    pub(crate) fn wait(&self, now: DateTime<Utc>) -> Option<Duration> {
        let state = self.0.borrow();
        if state.jobs.iter().any(|job| job.asked) {
            return Some(Duration::ZERO);
        }
        let next = state.jobs.iter().filter(|_| !state.stopped).filter_map(|job| job.next).min()?;
        Some((next - now).to_std().unwrap_or_default())
    }

    /// Those that are due, once each, and when each is due again.
    pub(crate) fn take_due(&self, now: DateTime<Utc>) -> Vec<u64> {
        let mut state = self.0.borrow_mut();
        let stopped = state.stopped;
        let mut due = Vec::new();
        for job in &mut state.jobs {
            let on_time = !stopped && job.next.is_some_and(|next| next <= now);
            if on_time {
                job.next = following(&job.cron, now);
            }
            if std::mem::take(&mut job.asked) || on_time {
                due.push(job.id);
            }
        }
        due
    }

    /// Counts a run and says what to call; `None` if the job is gone meanwhile. The last run of a limit removes the job.
    pub(crate) fn begin(&self, id: u64) -> Option<Run> {
        let mut state = self.0.borrow_mut();
        let at = state.jobs.iter().position(|job| job.id == id)?;
        let job = state.jobs.get_mut(at)?;
        job.runs += 1;
        let run = Run {
            tag: job.tag.clone(),
            pattern: job.pattern.clone(),
            limit: job.limit,
            function: job.function.clone(),
            args: job.args.clone(),
        };
        let over = job.limit != 0 && job.runs >= job.limit;
        let last = over.then(|| state.jobs.remove(at));
        drop(state);
        drop(last);
        Some(run)
    }

    /// Each is to run at the next occasion.
    pub(crate) fn ask_for_all(&self) {
        self.0.borrow_mut().jobs.iter_mut().for_each(|job| job.asked = true);
    }

    /// Lets go of all functions: before the runtime goes.
    pub(crate) fn release(&self) {
        let jobs = std::mem::take(&mut self.0.borrow_mut().jobs);
        drop(jobs);
    }
}

fn following(cron: &Cron, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    cron.find_next_occurrence(&now, false).ok()
}

/// A pattern of six fields, seconds first; else why not.
pub(crate) fn parse_cron(pattern: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
    parser.parse(pattern.trim()).map_err(|error| {
        let hint =
            "six fields are expected, seconds first, for example \"0 */5 * * * *\" for every five minutes";
        format!("{pattern:?} is no cron pattern: {error}; {hint}")
    })
}

fn schedule<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (tag, pattern) = (call.short_text(0, "tag", LONGEST_TAG)?, call.short_text(1, "cron", LONGEST_TAG)?);
    let cron = parse_cron(&pattern).map_err(|cause| call.failed("cron", cause))?;
    let next = following(&cron, Utc::now());
    if next.is_none() {
        return Err(call.failed("cron", format!("{pattern:?} never comes")));
    }
    let function = Persistent::save(call.ctx(), call.function(2, "fn")?.clone());
    let limit = call.optional_count(3, "limit")?.unwrap_or(0);
    let args = call.args().iter().skip(4);
    let args = args.map(|value| Persistent::save(call.ctx(), value.clone())).collect();
    let most = host.limits().jobs;
    let mut state = host.jobs.0.borrow_mut();
    let old = state.jobs.iter().position(|job| job.tag == tag);
    if old.is_none() && state.jobs.len() >= most {
        return Err(call.failed_call(format!("{most} jobs are scheduled, the most a script may have")));
    }
    let id = state.next_id;
    state.next_id += 1;
    let job = Job { id, tag, pattern, cron, limit, runs: 0, next, asked: false, function, args };
    let replaced = match old.and_then(|at| state.jobs.get_mut(at)) {
        Some(old) => Some(std::mem::replace(old, job)),
        None => {
            state.jobs.push(job);
            None
        }
    };
    drop(state);
    drop(replaced);
    call.done()
}

fn remove<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let tag = call.text(0, "tag")?;
    let mut state = host.jobs.0.borrow_mut();
    let at = state.jobs.iter().position(|job| job.tag == tag);
    let gone = at.map(|at| state.jobs.remove(at));
    drop(state);
    drop(gone);
    call.done()
}

fn remove_all<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    host.jobs.release();
    call.done()
}

fn list<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let tags: Vec<String> = host.jobs.0.borrow().jobs.iter().map(|job| job.tag.clone()).collect();
    call.returns(tags)
}

/// Runs a job once the call at hand has returned.
fn run<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let tag = call.text(0, "tag")?;
    let mut state = host.jobs.0.borrow_mut();
    match state.jobs.iter_mut().find(|job| job.tag == tag) {
        Some(job) => job.asked = true,
        None => {
            let shown: String = tag.chars().take(40).collect();
            return Err(call.failed("tag", format!("no job of the name {shown:?} is scheduled")));
        }
    }
    call.done()
}

fn run_all<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    host.jobs.ask_for_all();
    call.done()
}

fn start<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let mut state = host.jobs.0.borrow_mut();
    if std::mem::take(&mut state.stopped) {
        let now = Utc::now();
        // What was missed while the scheduler stood still is not made up for.
        state.jobs.iter_mut().for_each(|job| job.next = following(&job.cron, now));
    }
    call.done()
}

fn stop<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    host.jobs.0.borrow_mut().stopped = true;
    call.done()
}
