use serde_json::{Value, json};

use super::*;

fn credential(spec: &Value) -> IntegrationCredential {
    let spec = serde_json::from_value(spec.clone()).unwrap();
    let mut credential = IntegrationCredential::new("shop", spec);
    credential.metadata.namespace = Some("team-a".to_owned());
    credential
}

fn secret(data: &[(&str, &[u8])]) -> Secret {
    let pair = |(key, value): &(&str, &[u8])| ((*key).to_owned(), ByteString(value.to_vec()));
    Secret {
        data: Some(data.iter().map(pair).collect()),
        ..Secret::default()
    }
}

fn read(spec: &Value, found: Option<&Secret>) -> Result<Source, Failure> {
    let credential = credential(spec);
    Source::read(&credential, credential.spec.kind().unwrap(), found)
}

/// The reason and the message of a failure.
fn refused(spec: &Value, found: Option<&Secret>) -> (&'static str, String) {
    let failure = read(spec, found).err().expect("a failure");
    (failure.reason.as_str(), failure.message)
}

fn api_key() -> Value {
    json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}})
}

fn user_password() -> Value {
    json!({"userPassword": {"secretRef": {"name": "in"}, "usernameKey": "user"}})
}

fn host_scoped(host: &str) -> Value {
    json!({"hostScoped": {"host": host, "headersSecretRef": {"name": "in"}}})
}

fn keys(source: &Source) -> Vec<(String, String)> {
    let text = |(key, value): (String, ByteString)| (key, String::from_utf8(value.0).unwrap());
    source.keys().into_iter().map(text).collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn each_kind_has_its_keys_and_a_final_line_feed_is_not_part_of_a_value() {
    let found = secret(&[("k", "ключ-🗝\n".as_bytes()), ("other", b"\0")]);
    let source = read(&api_key(), Some(&found)).ok().unwrap();
    assert_eq!(keys(&source), [pair("api_key", "ключ-🗝")]);
    let found = secret(&[("user", b"alice"), ("password", b" p w: \r\n")]);
    let source = read(&user_password(), Some(&found)).ok().unwrap();
    let expected = [pair("password", " p w: "), pair("username", "alice")];
    assert_eq!(keys(&source), expected);
    let found = secret(&[("Authorization", b"Bearer x"), ("X-Org", b"7")]);
    let source = read(&host_scoped("*.example.com:8443"), Some(&found));
    let expected = [
        pair("Authorization", "Bearer x"),
        pair("X-Org", "7"),
        pair("host", "*.example.com:8443"),
    ];
    assert_eq!(keys(&source.ok().unwrap()), expected);
}

/// Kind, data, reason, and what is said.
type Row<'a> = (&'a str, &'a [(&'a str, &'a [u8])], &'a str, &'a str);

#[test]
#[rustfmt::skip]
fn what_is_missing_or_wrong_is_told_with_the_secret_the_key_and_the_command() {
    let (reason, message) = refused(&api_key(), None);
    assert_eq!(reason, "SourceNotFound");
    for word in [
        "team-a/in",
        "does not exist",
        "kubectl -n team-a create secret generic in --from-literal=k=…",
    ] {
        assert!(message.contains(word), "{word} in {message}");
    }
    let table: &[Row<'_>] = &[
        ("k", &[], "SourceNotFound", "has no key k"),
        ("k", &[("K", b"x")], "SourceNotFound", "has no key k"),
        ("k", &[("k", b"")], "SourceInvalid", "empty value at key k"),
        ("k", &[("k", b" \n")], "SourceInvalid", "empty value at key k"),
        ("k", &[("k", b"\xff")], "SourceInvalid", "not UTF-8 text at key k"),
        ("k", &[("k", b"a\nb")], "SourceInvalid", "control characters at key k"),
        ("k", &[("k", b"a\0b")], "SourceInvalid", "control characters at key k"),
        ("p", &[("user", b"a")], "SourceNotFound", "has no key password"),
        ("p", &[("password", b"a")], "SourceNotFound", "has no key user"),
        ("p", &[("user", b"a"), ("password", b"")], "SourceInvalid", "at key password"),
        ("h", &[], "SourceNotFound", "no header"),
        ("h", &[("X-A", b"a\r\nX: b")], "SourceInvalid", "control characters at key X-A"),
        ("h", &[("X-A", b"a"), ("x-a", b"b")], "SourceInvalid", "twice, as X-A and x-a"),
        ("h", &[("Host", b"evil")], "SourceInvalid", "key Host"),
        ("h", &[("Transfer-Encoding", b"x")], "SourceInvalid", "key Transfer-Encoding"),
        ("h", &[("token_generation", b"9")], "SourceInvalid", "key token_generation"),
        ("h", &[("a b", b"9")], "SourceInvalid", "key a b"),
    ];
    for (kind, data, reason, why) in table {
        let spec = match *kind {
            "k" => api_key(),
            "p" => user_password(),
            _ => host_scoped("h"),
        };
        let (said, message) = refused(&spec, Some(&secret(data)));
        assert_eq!(said, *reason, "{message}");
        for word in [*why, "team-a/in", "kubectl -n team-a "] {
            assert!(message.contains(word), "{word} in {message}");
        }
    }
}

#[test]
fn no_message_repeats_a_value() {
    for value in ["hush\nhush", "hush\0"] {
        let found = secret(&[("k", value.as_bytes())]);
        assert!(!refused(&api_key(), Some(&found)).1.contains("hush"));
    }
}

#[test]
fn a_grant_is_nobodys_source() {
    let mut typed = secret(&[("k", b"x")]);
    typed.type_ = Some(grant::TYPE.to_owned());
    let mut labelled = secret(&[("k", b"x")]);
    labelled
        .labels_mut()
        .insert(ROLE_LABEL.to_owned(), "grant".to_owned());
    let named = json!({"apiKey": {"secretKeyRef": {"name": "alice.grant", "key": "k"}}});
    let plain = secret(&[("k", b"x")]);
    for (spec, found) in [(api_key(), typed), (api_key(), labelled), (named, plain)] {
        let (reason, message) = refused(&spec, Some(&found));
        assert_eq!(reason, "SourceInvalid");
        assert!(message.contains("refresh token"), "{message}");
    }
}

#[test]
fn a_credential_is_not_its_own_source() {
    let mut spec = api_key();
    spec["target"] = json!({"name": "in"});
    let (reason, message) = refused(&spec, Some(&secret(&[("k", b"x")])));
    assert_eq!(reason, "SourceInvalid");
    assert!(message.contains("spec.target.name"), "{message}");
}

#[test]
fn what_leaves_no_room_for_the_copy_is_refused() {
    let value = vec![b'x'; 900 * 1024];
    let large = secret(&[("X-A", &value)]);
    assert!(read(&host_scoped("h"), Some(&large)).is_ok());
    let value = vec![b'x'; 1024 * 1024];
    let (reason, message) = refused(&host_scoped("h"), Some(&secret(&[("X-A", &value)])));
    assert_eq!(reason, "SourceInvalid");
    assert!(message.contains("bytes"), "{message}");
}

#[test]
fn a_host_is_a_name_or_an_address_with_a_port_or_without() {
    let found = secret(&[("X-A", b"a")]);
    for host in [
        "api.example.com",
        "API.Example.COM:443",
        "*.example.com",
        "localhost:1",
        "x:65535",
        "203.0.113.7:8443",
        "[::1]",
        "[2001:db8::1]:8443",
        "[::ffff:203.0.113.7]",
    ] {
        assert!(read(&host_scoped(host), Some(&found)).is_ok(), "{host}");
    }
    let long = format!("{}.example.com", "a.".repeat(125));
    for host in [
        "x:0",
        "x:65536",
        "x:99999",
        "x:",
        "[::1]:70000",
        "[:::]",
        "[1]",
        "[::1",
        "[::1]x",
        "999.0.0.1",
        "1.2.3",
        "*.1.2.3.4",
        "a..b",
        "-a",
        "",
        "*.",
        "a/b",
        "x:+80",
        long.as_str(),
    ] {
        let (reason, message) = refused(&host_scoped(host), Some(&found));
        assert_eq!(reason, "HostInvalid", "{host}");
        let command = "kubectl -n team-a patch icred shop";
        assert!(
            message.contains("spec.hostScoped.host") && message.contains(command),
            "{message}"
        );
    }
}
