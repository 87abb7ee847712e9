//! Secrets to look for, in every form in which one might be written down.

use std::collections::BTreeSet;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// A piece of a secret that is long enough to be no chance.
const PIECE: usize = 16;

/// What is looked for.
#[derive(Default)]
pub struct Needles {
    secrets: BTreeSet<String>,
}

impl Needles {
    /// A secret: as a whole, and its beginning and end, should somebody have shortened it.
    pub fn add(&mut self, secret: &str) {
        assert!(secret.len() >= PIECE, "too short to be found: {secret}");
        // The head of a JWT says nothing.
        let tail = secret.rsplit('.').next().unwrap();
        let start = if secret.starts_with("eyJ") {
            tail
        } else {
            secret
        };
        for piece in [start.get(..PIECE), secret.get(secret.len() - PIECE..)] {
            self.secrets.extend(piece.map(str::to_owned));
        }
    }

    /// A private key in PEM: each of its whole lines but the first, which many keys share.
    pub fn add_key(&mut self, pem: &str) {
        let lines = pem.lines().skip(2).filter(|line| line.len() == 64);
        self.secrets.extend(lines.map(str::to_owned));
    }

    /// How many of them are in a text.
    pub fn found_in(&self, text: &str) -> usize {
        let found = |secret: &&String| {
            forms(secret)
                .iter()
                .any(|form| text.contains(form.as_str()))
        };
        self.secrets.iter().filter(found).count()
    }

    /// Fails if one of them is in a text.
    pub fn check_text(&self, place: &str, text: &str) {
        for secret in &self.secrets {
            for form in forms(secret) {
                assert!(!text.contains(&form), "{secret} is in {place} as {form}");
            }
        }
    }
}

/// As it is, and encoded: for URLs and forms, in JSON, in base64 wherever it begins, in hexadecimal.
fn forms(secret: &str) -> BTreeSet<String> {
    let bytes = secret.as_bytes();
    let form: String = url::form_urlencoded::byte_serialize(bytes).collect();
    let json = serde_json::to_string(secret).unwrap();
    let mut forms: BTreeSet<String> = [
        secret.to_owned(),
        form.to_ascii_lowercase(),
        form.replace('+', "%20"),
        form,
        json.trim_matches('"').to_owned(),
        HEXLOWER.encode(bytes),
        HEXUPPER.encode(bytes),
    ]
    .into();
    for before in 0..3 {
        let mut shifted = vec![0; before];
        shifted.extend(bytes);
        // Characters that depend on what stands before and behind are left out.
        let first = (before * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
            forms.insert(encoding.encode(&shifted)[first..last].to_owned());
        }
    }
    forms
}

#[test]
fn a_secret_is_found_in_every_form() {
    let mut needles = Needles::default();
    needles.add("canary+secret/with=odd%characters");
    let secret = "canary+secret/with=odd%characters";
    for text in [
        secret.to_owned(),
        format!("x{}", BASE64.encode(secret.as_bytes())),
        BASE64.encode(format!("a{secret}b").as_bytes()),
        BASE64.encode(format!("demo:{secret}").as_bytes()),
        BASE64URL_NOPAD.encode(format!("ab{secret}").as_bytes()),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        HEXLOWER.encode(secret.as_bytes()),
    ] {
        assert!(needles.found_in(&text) > 0, "{text}");
    }
    assert_eq!(needles.found_in("nothing to see"), 0);
}
