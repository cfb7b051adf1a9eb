/*
 * syslog_target.h - where syslog listens: "unix:/dev/log", "udp:192.0.2.1:514" or "udp:[2001:db8::1]:514".
 * Addresses are numeric: nothing is looked up.
 */
#pragma once
#include <stdbool.h>
#include <sys/socket.h>

struct syslog_target {
    struct sockaddr_storage address;
    socklen_t len;
};

bool syslog_target_parse(const char *text, struct syslog_target *t);
