/* POSIX threads: mutex, condition variable, barrier, thread-local storage, join. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

enum { THREADS = 6, ROUNDS = 200, ITEMS = 500 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static pthread_cond_t emptied = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static __thread long mine;
static long shared, queue[8], head, tail, consumed, done_producing;
static unsigned long atomic_sum;

static void *worker(void *arg)
{
    long id = (long)(intptr_t)arg;
    for (int r = 0; r < ROUNDS; r++) {
        pthread_mutex_lock(&mutex);
        shared += id;
        pthread_mutex_unlock(&mutex);
        mine += id + r;
        __atomic_fetch_add(&atomic_sum, (unsigned long)r, __ATOMIC_SEQ_CST);
        if (r % 50 == 0) {
            pthread_barrier_wait(&barrier);
        }
    }
    return (void *)(intptr_t)mine;
}

static void *producer(void *arg)
{
    (void)arg;
    for (long i = 1; i <= ITEMS; i++) {
        pthread_mutex_lock(&mutex);
        while (head - tail == 8) {
            pthread_cond_wait(&emptied, &mutex);
        }
        queue[head++ & 7] = i;
        pthread_cond_signal(&filled);
        pthread_mutex_unlock(&mutex);
    }
    pthread_mutex_lock(&mutex);
    done_producing = 1;
    pthread_cond_broadcast(&filled);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void *consumer(void *arg)
{
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (head == tail && !done_producing) {
            pthread_cond_wait(&filled, &mutex);
        }
        if (head == tail) {
            pthread_mutex_unlock(&mutex);
            return NULL;
        }
        consumed += queue[tail++ & 7];
        pthread_cond_signal(&emptied);
        pthread_mutex_unlock(&mutex);
    }
}

int main(void)
{
    pthread_t t[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (long i = 0; i < THREADS; i++) {
        if (pthread_create(&t[i], NULL, worker, (void *)(intptr_t)i)) {
            return 2;
        }
    }
    long sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *r;
        pthread_join(t[i], &r);
        sum += (long)(intptr_t)r;
    }
    printf("shared %ld, thread-local %ld, atomic %lu\n", shared, sum, atomic_sum);
    pthread_create(&t[0], NULL, producer, NULL);
    pthread_create(&t[1], NULL, consumer, NULL);
    pthread_create(&t[2], NULL, consumer, NULL);
    for (int i = 0; i < 3; i++) {
        pthread_join(t[i], NULL);
    }
    printf("consumed %ld\n", consumed);
    int good = shared == 15L * ROUNDS && consumed == (long)ITEMS * (ITEMS + 1) / 2 && mine == 0;
    puts(good ? "right" : "WRONG");
    return good ? 5 : 1;
}
