/* command.h - `ironclaw image`: list, import and remove root file systems of this host. */
#pragma once
int image_main(int argc, char **argv);
