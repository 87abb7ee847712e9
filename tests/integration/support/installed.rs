//! Programs of others that `make` installs or builds into the cache folder.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

/// The folder that `variable` names: `make test` has set it, else it is in what this target of the Makefile prints.
pub(super) async fn installed(
    variable: &'static str,
    (target, needs): (&'static str, &'static str),
) -> PathBuf {
    if let Some(folder) = std::env::var_os(variable) {
        return folder.into();
    }
    let asked = tokio::task::spawn_blocking(move || by_make(target, needs))
        .await
        .unwrap();
    let prefix = format!("export {variable}='");
    let line = asked.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {variable} from `make {target}`: {asked}"))
        .trim_end_matches('\'')
        .into()
}

/// Asked once for each target, by one test at a time.
fn by_make(target: &'static str, needs: &str) -> String {
    static ASKED: LazyLock<Mutex<HashMap<&str, String>>> = LazyLock::new(Mutex::default);
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let printed = asked.entry(target).or_insert_with(|| {
        let make = Command::new("make")
            .args(["--silent", target])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("make on the PATH");
        assert!(
            make.status.success(),
            "`make {target}` failed: it needs {needs}"
        );
        String::from_utf8(make.stdout).unwrap()
    });
    printed.clone()
}
