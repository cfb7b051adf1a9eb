#include "walls/wall.h"

#include <string.h>

#include "base/cleanup.h"
#include "walls/cell/cell.h"
#include "walls/container/container.h"
#include "walls/gvisor/gvisor.h"

static const struct wall_ops *const walls[] = {&container_wall, &cell_wall, &gvisor_wall};

static struct wall_config configured;

void wall_configure(const struct wall_config *config)
{
    configured = *config;
}

const struct wall_config *wall_config(void)
{
    return &configured;
}

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
