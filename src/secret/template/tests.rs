use super::*;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
    let bytes = |value: &str| ByteString(value.as_bytes().to_vec());
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), bytes(value)));
    pairs.collect()
}

/// What `source` renders to at `key`.
fn rendered(key: &str, source: &str, pairs: &[(&str, &str)]) -> Result<String, TemplateError> {
    let templates = [(key.to_owned(), source.to_owned())].into();
    let mut data = render(&templates, &values(pairs))?;
    let ByteString(text) = data.remove(key).unwrap();
    Ok(String::from_utf8(text).unwrap())
}

fn error(key: &str, source: &str, pairs: &[(&str, &str)]) -> String {
    rendered(key, source, pairs).unwrap_err().to_string()
}

#[test]
fn every_function_does_what_it_is_for() {
    let pairs = [("a", "x y"), ("X-Api-Key", "k&é"), ("scope", "read write")];
    for (source, wanted) in [
        ("{{ a }}", "x y"),
        ("{{ data['X-Api-Key'] }}", "k&é"),
        ("{{ a | b64encode }}", "eCB5"),
        ("{{ a | b64encode | b64decode }}", "x y"),
        ("{{ 'eCB5\neCB5' | b64decode }}", "x yx y"),
        ("{{ data['X-Api-Key'] | urlencode }}", "k%26%C3%A9"),
        ("{{ a | json }}", r#""x y""#),
        ("{{ scope | split | json }}", r#"["read","write"]"#),
        ("{{ scope | split(' ') | join(',') }}", "read,write"),
        ("{{ basicAuth('me', a) }}", "bWU6eCB5"),
        (
            "{{ a | upper }}{{ 'A' | lower }}{{ ' t ' | trim }}",
            "X Yat",
        ),
        ("{{ a | replace(' ', '-') }}", "x-y"),
        ("{{ nothing | default('z') }}", "z"),
        ("{{ a | length }}", "3"),
        (
            "{% if a is defined %}1{% endif %}{% if b is undefined %}2{% endif %}",
            "12",
        ),
        (
            "{% for k, v in data | items %}{{ k }}={{ v }};{% endfor %}",
            "X-Api-Key=k&é;a=x y;scope=read write;",
        ),
        ("{{ a ~ '!' }}{{ a[:1] }}", "x y!x"),
        ("{# nothing #}{% raw %}{{ a }}{% endraw %}\n", "{{ a }}\n"),
        ("{{ 'yes' if a == 'x y' else 'no' }}", "yes"),
        ("ünï: {{ 'ö' | upper }}", "ünï: Ö"),
    ] {
        assert_eq!(
            rendered("k", source, &pairs).as_deref(),
            Ok(wanted),
            "{source}"
        );
    }
}

#[test]
fn an_error_names_the_key_and_the_place_and_no_value() {
    let pairs = [("access_token", "s3cr3t/tok"), ("user", "s3cr3t:user")];
    for (source, says) in [
        ("{{ access_token", "key \"k\", line 1, column"),
        (
            "x\n  {{ nosuch }}",
            "line 2, column 6: `nosuch` has no value here",
        ),
        (
            "{{ access_token.nosuch }}",
            "`access_token.nosuch` has no value here",
        ),
        ("{{ access_token | nosuch }}", "there is no filter nosuch"),
        ("{{ env('HOME') }}", "there is no function env"),
        ("{{ access_token | b64decode }}", "the value is not base64"),
        (
            "{{ basicAuth(user, 'x') }}",
            "a user name must not have a colon",
        ),
        ("{{ access_token - 1 }}", "cannot be done with these values"),
        ("{{ access_token.x() }}", "there are no methods"),
        (
            "{% for c in 1 %}{% endfor %}",
            "cannot be done with these values",
        ),
        ("{{ data[access_token] }}", "has no value here"),
        (
            "{{ access_token | items }}",
            "cannot be done with these values",
        ),
        ("{{ 1 | join }}", "the value is not a list"),
        ("{% set a = 1 %}", "of the statements there are if and for"),
        (
            "{% with a = 1 %}{% endwith %}",
            "of the statements there are if and for",
        ),
        ("{% include 'x' %}", "unknown statement"),
        ("{% macro x() %}{% endmacro %}", "unknown statement"),
        ("{{ 'a' * 3 }}", "there are no * and **"),
    ] {
        let error = rendered("k", source, &pairs).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(told.contains(says), "{source}: {told}");
        assert!(!told.contains("s3cr3t"), "{source}: {told}");
        assert!(
            !error.key.is_empty() && error.place.is_some(),
            "{source}: {told}"
        );
    }
}

#[test]
fn what_a_template_may_cost_is_bounded() {
    let long = "x".repeat(LONGEST);
    let pairs = [("a", long.as_str()), ("b", &long[..LONGEST / 2])];
    for (source, says) in [
        ("{{ a }}{{ a }}", "longer than 256 KiB"),
        ("{{ a }}!", "longer than 256 KiB"),
        (
            "{% for c in a %}{% for d in a %}{{ c }}{% endfor %}{% endfor %}",
            "more than 10000 steps",
        ),
        ("{{ a | replace('x', a) }}", "too long"),
        ("{{ a | split('x') | join(a) }}", "too long"),
        (
            "{% for c in a %}{% if (a | b64encode) == c %}{% endif %}{% endfor %}",
            "more than 16 MiB",
        ),
        ("{{ [a, a] | json }}", "too long"),
        ("{{ 'x' ** 2 }}", "there are no * and **"),
    ] {
        let told = error("k", source, &pairs);
        assert!(told.contains(says), "{source}: {told}");
    }
    assert_eq!(
        rendered("k", "{{ b }}{{ b }}", &pairs).unwrap().len(),
        LONGEST
    );
    let chain = format!("{{{{ {} }}}}", vec!["a"; 258].join(" ~ "));
    assert!(error("k", &chain, &pairs).contains("more than 256 values"));
    let list = format!("{{{{ [{}] | length }}}}", vec!["a"; 257].join(","));
    assert!(error("k", &list, &pairs).contains("more than 256 values"));
    let deep = format!("{{{{ {}a{} }}}}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(error("k", &deep, &pairs).contains("column"));
    let longer = "x".repeat(LONGEST + 1);
    assert!(error("k", "{{ a }}", &[("a", &longer)]).contains("has no value"));
}

#[test]
fn a_value_cannot_break_out_of_a_string_of_a_json_document() {
    let nasty = "\",\"admin\":true,\"x\":\"\\\n\u{1}é</script>";
    let document = r#"{"token": "{{ a }}", "all": {{ a | json }}, "n": {{ n }}, "auth": "{{ basicAuth('u', a) }}"}"#;
    for key in ["config.json", ".dockerconfigjson", "x.dockerconfigjson"] {
        let text = rendered(key, document, &[("a", nasty), ("n", "4")]).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["token"], nasty, "{key}");
        assert_eq!(read["all"], nasty, "{key}");
        assert_eq!(read["n"], 4, "{key}");
        assert_eq!(read.as_object().unwrap().len(), 4);
    }
    // Out of a string it is no document any more.
    let told = error("x.json", "{\"n\": {{ n }}}", &[("n", "1, \"admin\": true")]);
    assert!(
        told.contains("no JSON document from line 1, column"),
        "{told}"
    );
    assert!(!told.contains("admin"), "{told}");
    // Elsewhere a value is written as it is.
    assert_eq!(
        rendered("x.txt", "{{ a }}", &[("a", nasty)]).unwrap(),
        nasty
    );
}

#[test]
fn values_that_are_not_text_can_be_encoded() {
    let data = [("key".to_owned(), ByteString(vec![0xff, 0x00]))].into();
    let encode = |source: &str| {
        let templates = [("k".to_owned(), source.to_owned())].into();
        render(&templates, &data).map(|mut data| data.remove("k").unwrap().0)
    };
    assert_eq!(encode("{{ key | b64encode }}").unwrap(), b"/wA=");
    let told = encode("{{ key }}").unwrap_err().to_string();
    assert!(told.contains("not UTF-8 text; use b64encode"), "{told}");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of templates, put together at random: more of them are templates than of random characters.
    fn template() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{{ ".to_owned()),
            Just(" }}".to_owned()),
            Just("{% if ".to_owned()),
            Just(" %}".to_owned()),
            Just("{% endif %}".to_owned()),
            Just("{% for a in b %}".to_owned()),
            Just("{% endfor %}".to_owned()),
            Just("{{ a | b64encode }}".to_owned()),
            Just("a".to_owned()),
            Just("[b, a]".to_owned()),
            Just(" | json".to_owned()),
            Just(" | replace('', a)".to_owned()),
            Just(" | split('') | join(a)".to_owned()),
            Just(" ~ a".to_owned()),
            Just("('é' ".to_owned()),
            Just(")".to_owned()),
            Just("data['a']".to_owned()),
            Just("basicAuth(a, b)".to_owned()),
            Just("[1:]".to_owned()),
            Just("99999999999".to_owned()),
            Just(" - 1 // 0 % 0".to_owned()),
            ".{0,8}",
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_template_panics_or_renders_more_than_it_may(
            source in template(),
            key in prop_oneof![Just("k"), Just("k.json")],
            a in ".{0,200}",
            b in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let templates = [(key.to_owned(), source)].into();
            let values = [
                ("a".to_owned(), ByteString(a.into_bytes())),
                ("b".to_owned(), ByteString(b)),
            ].into();
            let _ = check(&templates);
            if let Ok(data) = render(&templates, &values) {
                prop_assert!(data[key].0.len() <= LONGEST);
            }
        }

        #[test]
        fn any_text_renders_to_itself_or_is_refused(source in any::<String>()) {
            if let Ok(text) = rendered("k", &source, &[]) {
                prop_assert!(text.len() <= source.len());
            }
        }

        #[test]
        fn a_document_with_holes_in_its_strings_is_always_json(
            a in any::<String>(),
            before in "[a-z ]{0,8}",
        ) {
            let document = format!(r#"{{"x": ["{before}{{{{ a }}}}", {{"{{{{ a }}}}": {{{{ a | json }}}}}}]}}"#);
            let text = rendered("x.json", &document, &[("a", &a)]).unwrap();
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read["x"][0], &serde_json::Value::from(format!("{before}{a}")));
            prop_assert_eq!(&read["x"][1][&a], &serde_json::Value::from(a.clone()));
        }
    }
}
