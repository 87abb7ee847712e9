//! `tokenward controller`, before it reaches a cluster.

use tokio::process::Command;

/// Runs it where there is no cluster, and gives what it wrote.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenward"));
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command
        .args(["controller", "--kubeconfig", "/nonexistent/kubeconfig"])
        .args(arguments)
        .envs(variables.iter().copied());
    let ran = command.output().await.unwrap();
    assert!(!ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stderr).unwrap()
}

#[tokio::test]
async fn a_proxy_that_is_not_followed_is_told_once_with_the_flag_that_makes_it_be() {
    let proxy = "http://user:hunter2@proxy.example.com:3128";
    let told = run(&[], &[("HTTPS_PROXY", proxy)]).await;
    assert_eq!(told.matches("--provider-proxy").count(), 1, "{told}");
    assert!(told.contains("HTTPS_PROXY"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let given = ["--provider-proxy", "http://proxy.example.com:3128"];
    for quiet in [
        run(&[], &[]).await,
        run(&[], &[("HTTPS_PROXY", "")]).await,
        run(&given, &[("HTTPS_PROXY", proxy)]).await,
    ] {
        assert!(!quiet.contains("--provider-proxy"), "{quiet}");
    }
}

#[tokio::test]
async fn a_proxy_or_a_network_that_is_none_ends_it_and_no_password_is_shown() {
    let proxy = "socks5://user:hunter2@proxy.example.com";
    for told in [
        run(&["--provider-proxy", proxy], &[]).await,
        run(&[], &[("TOKENWARD_PROVIDER_PROXY", proxy)]).await,
    ] {
        assert!(told.contains("--provider-proxy"), "{told}");
        assert!(told.contains("http://proxy.example.com:3128"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let networks = "TOKENWARD_ALLOW_PROVIDER_NETWORKS";
    for told in [
        run(&["--allow-provider-network", "10.1.2.3/8"], &[]).await,
        run(&[], &[(networks, "fd00::/8,10.1.2.3/8")]).await,
    ] {
        assert!(told.contains("the network is 10.0.0.0/8"), "{told}");
    }
    let told = run(&[], &[(networks, "")]).await;
    assert!(!told.contains("network"), "{told}");
}
