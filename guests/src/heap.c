/* malloc, free, realloc, qsort and floating-point output. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 5000, BLOCKS = 300 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(void)
{
    double *d = malloc(NUMBERS * sizeof *d);
    unsigned seed = 1;
    for (int i = 0; i < NUMBERS; i++) {
        seed = seed * 1103515245 + 12345;
        d[i] = (seed >> 8) / 1000.0 - 5000;
    }
    qsort(d, NUMBERS, sizeof *d, ascending);
    double sum = 0;
    for (int i = 0; i < NUMBERS; i++) {
        sum += d[i] * i;
    }
    printf("%g %g %g\n%.10f %e %a\n", d[0], d[NUMBERS / 2], d[NUMBERS - 1], sum, sum, sum);
    printf("%g %g %g %g %g\n", 0.1, 1e300 * 1e10, -0.0, 5e-324, sqrt(2));
    printf("%Lg %.20Lf\n", (long double)sum / 3, 1.0L / 7);
    float f = 1.0f / 3;
    printf("%g %.9g %d %d\n", f, (double)f, (int)-2.7, (int)(f * 1000));

    char *p[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        p[i] = malloc((size_t)i * 37 + 1);
        memset(p[i], i, (size_t)i * 37 + 1);
    }
    for (int i = 0; i < BLOCKS; i += 2) {
        free(p[i]);
    }
    unsigned long total = 0;
    for (int i = 1; i < BLOCKS; i += 2) {
        p[i] = realloc(p[i], (size_t)i * 5000);
        total += (unsigned char)p[i][i * 37];
    }
    char *big = malloc(40 << 20);
    for (int i = 0; i < 40; i++) {
        big[(long)i << 20] = (char)i;
        total += (unsigned char)big[((long)i << 20) + 1];
    }
    printf("%lu\n", total);
    free(big);
    return 0;
}
