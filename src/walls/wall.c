#include "walls/wall.h"

#include <string.h>

#include "base/cleanup.h"
#include "walls/container/container.h"

static const struct wall_ops *const walls[] = {&container_wall};

const struct wall_ops *wall_at(size_t i)
{
    return i < ARRAY_LEN(walls) ? walls[i] : NULL;
}

const struct wall_ops *wall_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(walls); i++)
        if (!strcmp(walls[i]->name, name))
            return walls[i];
    return NULL;
}
