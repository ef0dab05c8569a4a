// Jobs
var calls = 0;
function onItemCaptured(data) {
  calls++;
}
function report(greeting, what) {
  console.log(greeting, what, calls);
}
jobs.schedule("report", "0 0 0 1 1 *", report, 2, "hello", "world");
jobs.schedule("fails", "0 0 0 1 1 *", function () { throw new Error("no"); }, 0);
jobs.schedule("gone", "*/10 * * * * *", report);
jobs.remove("gone");
console.log(jobs.list().join(), jobs.scheduler.isRunning());
jobs.scheduler.stop();
jobs.scheduler.start();
jobs.run("report");

function onJobPassed(tag, cron, limit) {
  console.log("passed", tag, cron, limit);
}
function onJobFailed(tag, cron, limit, err) {
  console.error("failed", tag, limit, String(err));
  jobs.removeAll();
}
