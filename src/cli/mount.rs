//! `tokenward mount`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{connect::Connect, credential, exit, logs::Logs, timeout};
use crate::{
    admin,
    mount::{self, Directory, MountError, Progress, Wish},
};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward mount alice --dir /var/run/alice           in a sidecar, for the containers beside it
  tokenward mount alice --dir /var/run/alice --hold    a refresh that ends the token waits for the pod
  tokenward mount alice --dir /tmp/alice --timeout 10s --log-format text

Rights: list and watch on the one Secret and, without --secret, get on the credential. With --hold: those of
deploy/consumer-role.yaml. SIGTERM ends it with code 0; the files stay.";

#[derive(Args)]
pub(super) struct Arguments {
    /// The IntegrationCredential.
    #[arg(value_name = "NAME", value_parser = credential)]
    name: String,

    /// Where the files are: an empty directory, or one that it has filled before.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// The mode of the files, in octal. 0440 lets the group of the volume (fsGroup) read them, 0400 only the user that
    /// this runs as, 0444 everybody who sees the volume.
    #[arg(long, default_value = "0440", value_name = "MODE", value_parser = file_mode)]
    file_mode: u32,

    /// The credential's target, so that no right to read the credential itself is needed; by default it is asked for.
    #[arg(long, value_name = "NAME", value_parser = secret)]
    secret: Option<String>,

    /// Hold the credential, from before it is ready until it ends: a refresh that would end the token waits as long as
    /// spec.lock.drainGrace says. Then it goes on; the new token is written, and held again.
    #[arg(long)]
    hold: bool,

    /// End with code 75 where it is not ready within this time; by default it waits as long as it takes.
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Duration>,

    /// Where /livez and /readyz are served.
    #[arg(long, default_value = "0.0.0.0:8099", value_name = "ADDRESS:PORT")]
    health_address: SocketAddr,

    #[command(flatten)]
    logs: Logs,
}

/// The mode of files that others may read at most.
fn file_mode(text: &str) -> Result<u32, String> {
    const OWNER_READS: u32 = 0o400;
    const AT_MOST: u32 = 0o644;
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & OWNER_READS != 0 && mode & !AT_MOST == 0 => Ok(mode),
        _ => Err("it is 0400, 0440, 0444, 0600, 0640 or 0644".to_owned()),
    }
}

/// A Secret of the arguments.
fn secret(text: &str) -> Result<String, String> {
    let is_word = |word: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !word.is_empty() && word.bytes().all(fits)
    };
    if text.len() <= 253 && text.split('.').all(is_word) {
        Ok(text.to_owned())
    } else {
        Err(
            "the name of a Secret is lower case letters, digits, '-' and '.', at most 253"
                .to_owned(),
        )
    }
}

pub(super) async fn run(connect: Connect, arguments: Arguments) -> Result<u8> {
    arguments.logs.start(None)?;
    let manager = connect.manager().await?;
    let owner = format!("{}/{}", manager.namespace(), arguments.name);
    let directory = Directory::claim(&arguments.dir, arguments.file_mode, &owner)?;
    if mount::is_in_memory(&arguments.dir) == Some(false) {
        tracing::warn!(
            dir = %arguments.dir.display(),
            "this directory is on a disk, and so will the token be: use an emptyDir with medium Memory"
        );
    }
    let progress = Arc::new(Progress::new(arguments.hold));
    let shutdown = CancellationToken::new();
    let asked = Arc::clone(&progress);
    let address = admin::serve_probes(
        arguments.health_address,
        move || asked.missing(),
        shutdown.clone(),
    )
    .await
    .with_context(|| {
        format!(
            "cannot serve /livez and /readyz on {}",
            arguments.health_address
        )
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        health_address = %address,
        namespace = manager.namespace(),
        credential = arguments.name,
        dir = %arguments.dir.display(),
        "starting"
    );
    let wish = Wish {
        credential: arguments.name,
        secret: arguments.secret,
        hold: arguments.hold,
        timeout: arguments.timeout,
    };
    let work = mount::run(&manager, &wish, directory, &progress);
    let ended = manager.until_terminated(work).await;
    shutdown.cancel();
    let Some(error) = ended.context("cannot catch signals")? else {
        tracing::info!("stopped");
        return Ok(exit::SUCCESS);
    };
    manager.release_all_locks().await;
    Err(match error {
        MountError::Manager(error) => error.into(),
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_can_be_read_by_their_owner_and_written_by_nobody_else() {
        assert_eq!(file_mode("0440"), Ok(0o440));
        assert_eq!(file_mode("400"), Ok(0o400));
        assert_eq!(file_mode("0644"), Ok(0o644));
        for text in [
            "", "0", "0040", "0666", "0755", "04400", "rw", "-400", "0o440",
        ] {
            assert!(file_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_named_as_the_api_server_names_it() {
        assert_eq!(secret("alice.token-1").as_deref(), Ok("alice.token-1"));
        for text in ["", "a/b", "../a", "Alice", "a..b", "a,b=c"] {
            assert!(secret(text).is_err(), "{text}");
        }
    }
}
