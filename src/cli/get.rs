//! `tokenward get`.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use super::{
    connect::Connect,
    credential, exit,
    shown::{self, Variable},
    timeout,
};
use crate::manager::Credentials;

pub(super) const EXAMPLES: &str = "Examples:
  tokenward get alice                              the token
  tokenward get alice -o json                      with its generation, type, expiry and scopes
  tokenward get alice -o header | curl -H @- URL   without the token among the arguments of curl
  eval \"$(tokenward get alice -o env)\"             variables of a shell: TOKENWARD_ACCESS_TOKEN, …";

#[derive(Args)]
pub(super) struct Arguments {
    /// The IntegrationCredential.
    #[arg(value_name = "NAME", value_parser = credential)]
    name: String,

    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Token)]
    output: Output,

    /// How long to wait for a valid token.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = timeout)]
    timeout: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// The token alone, or the API key, or the password; headers as lines.
    Token,
    /// An object with generation, token_type, expires_at, scopes and access_token; of other kinds with what they have.
    Json,
    /// Lines NAME=VALUE, quoted for a shell.
    Env,
    /// The line of an HTTP request: Authorization: Bearer …, or Basic … for a password; or the headers.
    Header,
}

pub(super) async fn run(connect: Connect, arguments: Arguments) -> Result<u8> {
    let manager = connect.manager().await?;
    let token = manager
        .valid_token(&arguments.name, arguments.timeout)
        .await;
    manager.release_all_locks().await;
    let text = format(&token?, arguments.output)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.expose_secret())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")?;
    Ok(exit::SUCCESS)
}

fn format(given: &Credentials, output: Output) -> Result<SecretString> {
    Ok(match output {
        Output::Token => shown::main(given)?,
        Output::Header => shown::header(given)?,
        Output::Json => shown::object(given),
        Output::Env => {
            let line = |v: &Variable| format!("{}={}", v.name, quoted(v.value.expose_secret()));
            let lines: Vec<_> = shown::variables(given, None).iter().map(line).collect();
            lines.join("\n").into()
        }
    })
}

/// A value that every shell takes for one word. Quotes only where they are needed: other readers of such
/// lines take them literally.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._+/=:@%,".contains(c);
    if value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_any_value_back_as_it_is() {
        for value in [
            "ya29.a0Af_b-c~d+e/f==",
            "",
            "it's $HOME `id` \"x\" \\ ; rm -rf /",
            "two\nlines",
            "~root:~root",
        ] {
            let script = format!("V={}; printf %s \"$V\"", quoted(value));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }

    #[test]
    fn what_needs_no_quotes_has_none() {
        assert_eq!(quoted("ya29.a0Af_b-cd+e/f=="), "ya29.a0Af_b-cd+e/f==");
        assert_eq!(quoted("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00Z");
    }
}
