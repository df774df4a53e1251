/* Robust mutexes: a thread ends with some of them held, one of them waited for. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOCKS = 5 };
static pthread_mutex_t locks[LOCKS];

static void *holder(void *p)
{
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_lock(&locks[i]);
    pthread_mutex_unlock(&locks[2]);
    usleep(50000); /* until somebody waits */
    return p;
}

static void *waiter(void *p)
{
    int r = pthread_mutex_lock(&locks[0]);
    printf("waiter: %s\n", strerror(r));
    pthread_mutex_consistent(&locks[0]);
    pthread_mutex_unlock(&locks[0]);
    return p;
}

int main(void)
{
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_init(&locks[i], &a);
    pthread_t t, w;
    pthread_create(&t, NULL, holder, NULL);
    usleep(10000);
    pthread_create(&w, NULL, waiter, NULL);
    pthread_join(t, NULL);
    pthread_join(w, NULL);
    for (int i = 0; i < LOCKS; i++) {
        int r = pthread_mutex_trylock(&locks[i]);
        printf("%d: %s", i, r ? strerror(r) : "free");
        if (r == EOWNERDEAD && i != 3)
            printf(", consistent %d", pthread_mutex_consistent(&locks[i]));
        pthread_mutex_unlock(&locks[i]);
        printf(", then %s\n", strerror(pthread_mutex_trylock(&locks[i])));
    }
    return 0;
}
