#!/bin/sh
# iptables and ip6tables rules for egress-eddie.toml beside this file: the
# users _apt and dev are filtered by hostname, root may ask for every name and
# its traffic is not filtered, nobody else may ask the DNS at all. Run as root,
# as often as you like: the rules live in chains of their own.
#
# The rules are closed while Egress Eddie is not running: a packet for a queue
# that nobody reads is dropped. Never add --queue-bypass, which would open them.
set -eu

# filtered COMMAND USER DNS_QUEUE TRAFFIC_QUEUE
filtered() {
    out="$1 -w -A EDDIE-OUT -m owner --uid-owner $2"
    # DNS requests, loopback (a stub resolver) included.
    $out -p udp --dport 53 -j NFQUEUE --queue-num "$3"
    # DNS over TCP cannot be filtered yet: refused, so that clients see it at once.
    $out -p tcp --dport 53 -j REJECT
    # Local services, and what a judged packet has begun.
    $out -o lo -j RETURN
    $out -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
    # The first packets of everything else.
    $out -p tcp -j NFQUEUE --queue-num "$4"
    $out -p udp -j NFQUEUE --queue-num "$4"
    # What is neither TCP nor UDP (ICMP echo, SCTP) could carry data out.
    $out -j REJECT
}

# rules COMMAND RESPONSES APT_DNS APT_TRAFFIC DEV_DNS DEV_TRAFFIC ROOT_DNS
rules() {
    for chain in EDDIE-IN EDDIE-OUT; do
        "$1" -w -N $chain 2>/dev/null || "$1" -w -F $chain
    done
    # Every DNS response. This stands before any rule that accepts established
    # traffic, or answers would pass unseen and grant nothing.
    "$1" -w -A EDDIE-IN -p udp --sport 53 -m conntrack --ctstate ESTABLISHED -j NFQUEUE --queue-num "$2"
    # What pretends to be an answer to nobody's question.
    "$1" -w -A EDDIE-IN -p udp --sport 53 -j DROP

    filtered "$1" _apt "$3" "$4"
    filtered "$1" dev "$5" "$6"
    # Not filtered, but asked: a response passes only if its request was seen.
    "$1" -w -A EDDIE-OUT -m owner --uid-owner root -p udp --dport 53 -j NFQUEUE --queue-num "$7"
    # Whoever else asks would wait for an answer that cannot pass.
    "$1" -w -A EDDIE-OUT -p udp --dport 53 -m owner ! --uid-owner root -j REJECT

    "$1" -w -C INPUT -j EDDIE-IN 2>/dev/null || "$1" -w -I INPUT 1 -j EDDIE-IN
    "$1" -w -C OUTPUT -j EDDIE-OUT 2>/dev/null || "$1" -w -I OUTPUT 1 -j EDDIE-OUT
}

rules iptables  1 1000 1010 2000 2010 3000
rules ip6tables 2 1001 1011 2001 2011 3001
