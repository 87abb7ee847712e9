//! What came of it, and what to try next.

use std::collections::HashSet;
use std::env;
use std::path::Path;

use crate::output::{Look, Output};
use crate::place::NAMESPACE;
use crate::stage::Stage;
use crate::watch::Watch;

/// Sums up. Whether all is as promised.
pub(crate) fn show(watch: &Watch, stage: &Stage, refreshes: u64, output: Output) -> bool {
    let seconds = watch.elapsed().as_secs_f64();
    output.title(&format!("Summary after {seconds:.0} s"));
    output.say(
        "            refreshes   calls accepted   refused   least time left on a token in use",
    );
    for seen in &watch.seen {
        let (lifetime, left) = (stage.lifetime().as_secs(), seen.least_left.as_secs_f64());
        output.say(&format!(
            "  {:<8}  {:>9}   {:>14}   {:>7}   {left:.1} s of {lifetime} s",
            seen.name, seen.refreshes, seen.accepted, seen.refused
        ));
    }
    output.say("");
    let verdict = |good: bool, yes: &str, no: &str| {
        let (look, text) = if good {
            (Look::Good, yes)
        } else {
            (Look::Bad, no)
        };
        output.say(&format!("  {}", output.paint(look, text)));
        good
    };
    let calls: u64 = watch.seen.iter().map(|seen| seen.accepted).sum();
    let refused: u64 = watch.seen.iter().map(|seen| seen.refused).sum();
    let all_accepted = verdict(
        refused == 0 && calls > 0,
        &format!("All {calls} calls were accepted."),
        &format!("{refused} of {} calls were refused.", calls + refused),
    );
    let requests = stage.oauth.requests();
    let presented = requests
        .iter()
        .filter_map(|request| request.refresh_token.as_ref());
    let tokens = presented.collect::<HashSet<_>>().len();
    let most = stage.oauth.max_presentations();
    let redeemed_once = verdict(
        most == 1,
        &format!(
            "{tokens} refresh tokens were presented, each of them once, as the OAuth server saw it."
        ),
        &format!("A refresh token was presented {most} times, as the OAuth server saw it."),
    );
    let refreshed = watch.seen.iter().all(|seen| seen.refreshes >= refreshes);
    all_accepted && redeemed_once && refreshed
}

/// The next commands, where everything stops now.
pub(crate) fn next(stage: &Stage) -> String {
    let (here, elsewhere) = if stage.place.is_current() {
        (
            "make demo CLUSTER=current KEEP=1",
            "make demo                           on a control plane of its own",
        )
    } else {
        (
            "make demo KEEP=1",
            "make demo CLUSTER=current           on the cluster of your kubectl context, after asking",
        )
    };
    format!(
        "\nNext:\n  \
           {here:<34}  the same, and it stays up to try things\n  \
           {elsewhere}\n  \
           cat examples/demo/credentials.yaml  the objects, to copy"
    )
}

/// The next commands, ready to be copied, where everything stays.
pub(crate) fn things_to_try(stage: &Stage) -> String {
    let kubectl = format!("kubectl -n {NAMESPACE}");
    let control = format!("{}/control", stage.oauth.url());
    format!(
        "\nIt stays up until Ctrl-C. Try, in another terminal:\n\n\
         {}  \
           {kubectl} get icred -w                  # each refresh\n  \
           {kubectl} describe icred alice          # conditions and events\n  \
           {kubectl} get secret alice -o yaml      # what a pod mounts\n  \
           {kubectl} delete secret alice           # it comes back, and no provider is asked\n\n\
         Break the provider, and see what is said of it; then mend it:\n\n  \
           curl -d '{{\"fail\":{{\"status\":500}}}}' {control}\n  \
           {kubectl} get icred -o wide\n  \
           curl -d '{{\"clear\":true}}' {control}\n\n\
         From here on, only what is out of the ordinary is shown.\n",
        exports(stage)
    )
}

/// What another terminal needs to reach the same cluster with the same kubectl: nothing, where that is what
/// the user's kubectl does anyway.
fn exports(stage: &Stage) -> String {
    if stage.place.is_current() {
        return String::new();
    }
    let command = stage.place.command(&[]);
    let variables = command.get_envs().filter_map(|(name, value)| {
        let (name, value) = (name.to_str()?, value?.to_str()?);
        Some(format!("  export {name}={}\n", quoted(value)))
    });
    let mut lines: String = variables.collect();
    let folder = Path::new(command.get_program()).parent();
    if let Some(folder) = folder.filter(|_| !is_on_the_path("kubectl")) {
        lines += "  export PATH=";
        lines += &quoted(&folder.to_string_lossy());
        lines += ":\"$PATH\"\n";
    }
    lines
}

fn is_on_the_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// As a shell takes it, in quotes only where it needs them.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
