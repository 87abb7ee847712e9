//! Whatever a provider answers, reading it ends, and a new refresh token that is there is kept.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokenward::{
    api::Description,
    oauth::{
        catalog::entries,
        error::{Answer, Spends, classify},
        response::{Reading, read},
    },
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    status: u16,
    /// Which entry of the catalogue; beyond them: none.
    provider: u8,
    body: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let nothing = Description::default();
    let entry = entries().values().nth(usize::from(input.provider));
    let description = entry.map_or(&nothing, |entry| &entry.description);
    let spent = SecretString::from("spent");
    let reading = read(input.status, input.body, description, Some(&spent));
    match &reading {
        Reading::Tokens(tokens) => {
            assert!(tokens.access_token.is_some() || tokens.refresh_token.is_some());
        }
        Reading::Error(error) => {
            let answer = Answer::Answered {
                status: input.status,
                error: error.clone(),
                meaning: None,
                retry_after: None,
            };
            for spends in [Spends::RotatingToken, Spends::LastingToken, Spends::Nothing] {
                classify(&answer, spends);
            }
        }
        Reading::Unreadable => {}
    }
    // A plain answer with both tokens, at a success: the refresh token is not lost.
    if let (None, 200..300, Ok(Value::Object(fields))) =
        (entry, input.status, serde_json::from_slice::<Value>(input.body))
    {
        let text = |key: &str| fields.get(key).and_then(Value::as_str).filter(|t| !t.trim().is_empty());
        if let (Some(_), Some(new)) = (text("access_token"), text("refresh_token"))
            && new != "spent"
        {
            let Reading::Tokens(tokens) = reading else {
                panic!("the refresh token is lost");
            };
            let kept = tokens.refresh_token.expect("a refresh token");
            assert_eq!(kept.expose_secret(), new);
        }
    }
});
