//! `tokenward lock`.

use std::{fs, io::Write};

use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{HOUR, close_gate};
use crate::support::{
    Ended, Fixture, Operator, Running, TOKENWARD, call, eventually, is_over, signal, text,
};

/// A credential `alice` with a token, and its operator.
async fn alice(test: &str) -> (Fixture, Operator) {
    locked(test, json!({})).await
}

/// One whose `spec.lock` is this.
async fn locked(test: &str, lock: Value) -> (Fixture, Operator) {
    let fixture = Fixture::new(test, HOUR).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({"lock": lock})).await;
    fixture.ready("alice").await;
    (fixture, operator)
}

/// Holds `alice` while a shell runs `script`.
fn shell(fixture: &Fixture, options: &[&str], script: &str) -> Running {
    let mut arguments = vec!["lock", "alice"];
    arguments.extend(options);
    arguments.extend(["--", "sh", "-c", script]);
    fixture.tokenward(&arguments).start()
}

/// Says its process number, and then runs until it is told to end.
const FOREVER: &str = "echo pid $$; while :; do sleep 0.1; done";

async fn pid(running: &Running) -> u32 {
    running.said("pid ").await.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_is_that_of_the_command() {
    let (fixture, _operator) = alice("lock-code").await;
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let ended = shell(&fixture, &[], script).end().await;
        assert_eq!((ended.code, ended.err.as_str()), (code, ""), "{script}");
        assert_eq!(fixture.holds("alice").await, Vec::<String>::new());
    }
    let none = fixture
        .tokenward(&["lock", "alice", "--", "no-such-program"])
        .end()
        .await;
    assert_eq!(none.code, 127);
    assert!(
        none.complaint()
            .starts_with("tokenward: cannot start no-such-program: "),
        "{}",
        none.err
    );
    let folder = fixture
        .tokenward(&["lock", "alice", "--", "/usr"])
        .end()
        .await;
    assert_eq!(folder.code, 126, "{}", folder.err);
    assert_eq!(fixture.holds("alice").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_has_the_token_and_no_list_of_processes_shows_it() {
    let (fixture, _operator) = alice("lock-token").await;
    let target = fixture.find_secret("alice").await.unwrap();
    let token = text(&target, "access_token");
    let expiry = text(&target, "expires_at");
    let variables = "echo token $TOKENWARD_ACCESS_TOKEN; echo of $TOKENWARD_TOKEN_GENERATION $TOKENWARD_EXPIRES_AT;";
    let by_variable = shell(&fixture, &[], &format!("{variables} {FOREVER}"));
    let named = shell(
        &fixture,
        &["--token-env", "GH_TOKEN"],
        &format!("echo token $GH_TOKEN; {FOREVER}"),
    );
    let by_descriptor = shell(
        &fixture,
        &["--token-fd", "3"],
        &format!("echo token $(cat <&3); echo other ${{TOKENWARD_ACCESS_TOKEN-none}}; {FOREVER}"),
    );
    assert_eq!(by_variable.said("of ").await, format!("1 {expiry}"));
    assert_eq!(by_descriptor.said("other ").await, "none");
    for running in [by_variable, named, by_descriptor] {
        assert_eq!(running.said("token ").await, token);
        for process in [running.pid(), pid(&running).await] {
            let line = fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap();
            assert!(line.contains("sleep"), "{line}");
            assert!(!line.contains(&token));
        }
        running.signal("TERM");
        assert_eq!(running.end().await.code, 143);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_descriptor_that_is_taken_is_wrong_usage() {
    let (fixture, _operator) = alice("lock-taken").await;
    let script = r#"exec "$0" -n "$1" lock alice --token-fd 4 -- true 4</dev/null"#;
    let taken = call("sh", &["-c", script, TOKENWARD, &fixture.namespace]);
    let taken = taken.end().await;
    assert_eq!(taken.code, 2, "{}", taken.err);
    assert!(taken.complaint().contains("--token-fd 4"), "{}", taken.err);
    // The number of either end of the pipe, as it is made, will do.
    for number in ["3", "4", "5", "9"] {
        let read = format!("cat <&{number}");
        let ended = shell(&fixture, &["--token-fd", number], &read).end().await;
        let target = fixture.find_secret("alice").await.unwrap();
        assert_eq!(ended.out, text(&target, "access_token"), "{}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_waits_for_the_command_and_tells_it_by_the_drain_signal() {
    let (fixture, _operator) = alice("lock-drain").await;
    let go_on = tempfile::tempdir().unwrap();
    let file = go_on.path().join("go-on");
    let script = format!(
        "trap 'echo drained; while ! [ -e {} ]; do sleep 0.05; done; exit 3' USR1; {FOREVER}",
        file.display()
    );
    let held = shell(&fixture, &["--drain-signal", "usr1"], &script);
    pid(&held).await;
    let refresh = fixture.tokenward(&["refresh", "alice"]).start();
    held.said("drained").await;
    assert_eq!(
        fixture.oauth.granted(),
        1,
        "the token was replaced under its holder"
    );
    fs::write(&file, "").unwrap();
    let held = held.end().await;
    assert_eq!(held.code, 3);
    assert_eq!(held.out.matches("drained").count(), 1);
    assert!(
        held.complaint()
            .ends_with("waits: the command was sent SIGUSR1"),
        "{}",
        held.err
    );
    let refresh = refresh.end().await;
    assert_eq!(refresh.code, 0, "{}", refresh.err);
    assert!(refresh.err.contains("generation 2"), "{}", refresh.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_command_and_the_hold_with_it() {
    let (fixture, _operator) = alice("lock-signal").await;
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let running = shell(&fixture, &[], FOREVER);
        let command = pid(&running).await;
        assert_eq!(fixture.holds("alice").await.len(), 1);
        running.signal(name);
        let ended = running.end().await;
        assert_eq!(ended.code, 128 + number, "{}", ended.err);
        assert!(is_over(command));
        assert_eq!(fixture.holds("alice").await, Vec::<String>::new());
    }
    // One that the command handles is its own affair.
    let running = shell(
        &fixture,
        &[],
        &format!("trap 'echo heard; exit 5' USR2; {FOREVER}"),
    );
    pid(&running).await;
    running.signal("USR2");
    let ended = running.end().await;
    assert_eq!((ended.code, ended.out.contains("heard")), (5, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_it_waits_leaves_nothing_behind() {
    let (fixture, mut operator) = alice("lock-waiting").await;
    operator.kill();
    close_gate(&fixture).await;
    let audit = fixture.audit();
    let running = shell(&fixture, &[], "echo started");
    eventually("its look at the gate", async || {
        audit
            .requests()
            .contains(&"get leases alice.gate".to_owned())
            .then_some(())
    })
    .await;
    running.signal("TERM");
    let ended = running.end().await;
    assert_eq!((ended.code, ended.out.as_str()), (143, ""), "{}", ended.err);
    assert_eq!(fixture.holds("alice").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_gate_is_told_with_its_holder_or_gone_past_with_a_warning() {
    let (fixture, mut operator) = alice("lock-closed").await;
    operator.kill();
    close_gate(&fixture).await;
    let refused = shell(&fixture, &["--timeout", "1s"], "echo started")
        .end()
        .await;
    assert_eq!((refused.code, refused.out.as_str()), (75, ""));
    let words = "not acquired within 1s; the gate is held by operator-1/attempt-1 (Refreshing)";
    assert!(refused.complaint().contains(words), "{}", refused.err);

    let options = ["--timeout", "1s", "--when-closed", "proceed"];
    let script = "echo token $TOKENWARD_ACCESS_TOKEN; exit 4";
    let ended = shell(&fixture, &options, script).end().await;
    assert_eq!(ended.code, 4, "{}", ended.err);
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(
        ended.out,
        format!("token {}\n", text(&target, "access_token"))
    );
    let warning = ended.complaint();
    assert!(
        warning.contains("UNPROTECTED") && warning.contains("operator-1/attempt-1"),
        "{warning}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_holds_it_exclusively_that_one_is_named_and_not_gone_past() {
    let fixture = Fixture::new("lock-exclusive", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture
        .user("alice", json!({"lock": {"mode": "Exclusive"}}))
        .await;
    fixture.ready("alice").await;
    let first = shell(&fixture, &["--mode", "exclusive"], FOREVER);
    pid(&first).await;
    let options = ["--timeout", "1s", "--when-closed", "proceed"];
    let second = shell(&fixture, &options, "echo started").end().await;
    assert_eq!(
        (second.code, second.out.as_str()),
        (75, ""),
        "{}",
        second.err
    );
    let hold = fixture.leases().get("alice.hold.exclusive").await.unwrap();
    let holder = hold.spec.unwrap().holder_identity.unwrap();
    let words = format!("{holder} holds it");
    assert!(second.complaint().ends_with(&words), "{}", second.err);
    let other = shell(&fixture, &["--mode", "shared"], "true").end().await;
    assert_eq!(other.code, 1);
    assert!(
        other.complaint().contains("has mode Exclusive"),
        "{}",
        other.err
    );
    first.signal("TERM");
    first.end().await;
    let third = shell(&fixture, &[], "echo started").end().await;
    assert_eq!(
        (third.code, third.out.as_str()),
        (0, "started\n"),
        "{}",
        third.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_hold_is_lost_is_killed_with_all_that_it_started() {
    // It notices at its next renewal.
    let (fixture, _operator) = locked("lock-lost", json!({"holdDuration": "12s"})).await;
    let script = format!("trap '' TERM; sleep 1000 & echo other $!; {FOREVER}");
    let running = shell(&fixture, &[], &script);
    let command = pid(&running).await;
    let other: u32 = running.said("other ").await.parse().unwrap();
    let hold = fixture.held("alice").await;
    fixture
        .leases()
        .delete(&hold, &DeleteParams::default())
        .await
        .unwrap();
    let ended = running.end().await;
    assert_eq!(ended.code, 76, "{}", ended.err);
    assert!(
        ended
            .complaint()
            .contains("was lost, and the command was killed"),
        "{}",
        ended.err
    );
    assert!(is_over(command));
    // Killed with it, and no child of ours: whoever inherits it sees its end.
    eventually("the end of the other", async || {
        is_over(other).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_drain_is_killed_and_the_refresh_happens() {
    let fixture = Fixture::new("lock-stuck", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    let short = json!({"lock": {"holdDuration": "2s", "drainGrace": "1s"}});
    fixture.user("alice", short).await;
    fixture.ready("alice").await;
    let stuck = shell(&fixture, &[], &format!("trap '' TERM; {FOREVER}"));
    let command = pid(&stuck).await;
    let refresh = fixture.tokenward(&["refresh", "alice"]).start();
    let stuck = stuck.end().await;
    assert_eq!(stuck.code, 76, "{}", stuck.err);
    assert!(is_over(command));
    let refresh = refresh.end().await;
    assert_eq!(refresh.code, 0, "{}", refresh.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_leaves_behind_ends_with_it_and_both_with_tokenward() {
    let (fixture, _operator) = alice("lock-orphan").await;
    let running = shell(&fixture, &[], "sleep 1000 & echo other $!");
    let other: u32 = running.said("other ").await.parse().unwrap();
    assert_eq!(running.end().await.code, 0);
    eventually("the end of what was left", async || {
        is_over(other).then_some(())
    })
    .await;

    let running = shell(&fixture, &[], FOREVER);
    let command = pid(&running).await;
    running.signal("KILL");
    assert_eq!(running.end().await.code, 1009);
    eventually("the command's end", async || is_over(command).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_to_end_may_end_in_order_although_its_shell_is_gone() {
    let (fixture, _operator) = alice("lock-order").await;
    // The outer shell dies of SIGTERM at once, the inner one takes its time.
    let inner =
        "trap \"sleep 1; echo in order; exit\" TERM; echo inner $$; while :; do sleep 0.1; done";
    let running = shell(
        &fixture,
        &[],
        &format!("sh -c '{inner}' & echo pid $$; wait"),
    );
    pid(&running).await;
    running.said("inner ").await;
    running.signal("TERM");
    let ended = running.end().await;
    assert_eq!(ended.code, 143);
    assert!(ended.out.contains("in order"), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_was_ignored_before_stays_ignored() {
    let (fixture, _operator) = alice("lock-nohup").await;
    let script = format!(r#"trap '' HUP; exec "$0" -n "$1" lock alice -- sh -c '{FOREVER}'"#);
    let program = TOKENWARD;
    let running = call("sh", &["-c", &script, program, &fixture.namespace]).start();
    let command = pid(&running).await;
    running.signal("HUP");
    signal(command, "HUP");
    running.signal("TERM");
    let Ended { code, .. } = running.end().await;
    assert_eq!(code, 143, "SIGHUP ended it");
    assert!(is_over(command));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_ctrl_c_reaches_the_command_and_is_not_sent_again() {
    let (fixture, _operator) = alice("lock-terminal").await;
    // One that has left the terminal's group hears only what it is sent.
    for (program, heard) in [("sh", 1), ("setsid sh", 0)] {
        let counts =
            "n=0; trap \"n=\\$((n+1)); echo heard\" INT; trap \"echo counted \\$n; exit 6\" USR1;
            [ -t 0 ] && echo pid $$; while :; do sleep 0.1; done";
        let lock = format!("lock alice -- {program} -c '{counts}'");
        let Some((running, mut keyboard)) = fixture.at_a_terminal(&lock) else {
            return;
        };
        let command = pid(&running).await;
        keyboard.write_all(b"\x03").unwrap();
        // The terminal may show what was typed before it acts upon it.
        running.shown(if heard > 0 { "heard" } else { "^C" }).await;
        signal(command, "USR1");
        let ended = running.end().await;
        let counted = format!("counted {heard}");
        assert!(ended.out.contains(&counted), "{}", ended.out);
        assert_eq!(ended.code, 6);
    }
}
