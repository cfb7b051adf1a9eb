#include "upstream/upstream.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

bool address_is_loopback(const struct sockaddr *a)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (a->sa_family == AF_INET) {
        memcpy(&in, a, sizeof(in));
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    if (a->sa_family == AF_INET6) {
        memcpy(&in6, a, sizeof(in6));
        return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
    }
    return false;
}

int provider_find(const json_t *config, const char *name, struct provider *p, struct err *e)
{
    const json_t *entry = json_object_get(json_object_get(config, "providers"), name);
    const char *kind = json_string_value(json_object_get(entry, "kind"));
    const char *url = json_string_value(json_object_get(entry, "url"));

    if (!kind || !url)
        return err_set(e, ENOENT, "there is no provider %s: add it to \"providers\" in the configuration",
                       name);
    *p = (struct provider){.url = url,
                           .anthropic = !strcmp(kind, "anthropic"),
                           .plain = !strncmp(url, "http://", strlen("http://"))};
    if (!p->plain && strncmp(url, "https://", strlen("https://")) != 0)
        return err_set(e, EINVAL, "the URL of provider %s must start with https://", name);
    if (!p->anthropic && strcmp(kind, "openai") != 0)
        return err_set(e, EINVAL, "provider %s is of kind %s, which has nothing upstream", name, kind);
    return 0;
}
