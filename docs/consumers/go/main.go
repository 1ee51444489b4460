// Prints each EvalFailed as it is committed.
//
//	KAFKA_BOOTSTRAP=broker:9092 KAFKA_GROUP=my-team ./consumer
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"example.com/mendloop-consumer/mendloopv1"
)

func main() {
	topic := os.Getenv("KAFKA_TOPIC")
	if topic == "" {
		topic = "mendloop.eval-failed.v1"
	}
	left, _ := strconv.Atoi(os.Getenv("STOP_AFTER"))
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BOOTSTRAP"), ",")...),
		kgo.ConsumerGroup(os.Getenv("KAFKA_GROUP")),
		kgo.ConsumeTopics(topic),
		// Services publish in transactions: what was rolled back is no event.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	for {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			log.Fatal(errs[0].Err)
		}
		for _, record := range fetches.Records() {
			var event mendloopv1.EvalFailed
			if err := proto.Unmarshal(record.Value, &event); err != nil {
				log.Fatalf("offset %d of partition %d is no EvalFailed: %v", record.Offset, record.Partition, err)
			}
			show(record, &event)
			// After the work: an event comes at least once, its ce_id tells a repetition.
			if err := client.CommitRecords(ctx, record); err != nil {
				log.Fatal(err)
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

func show(record *kgo.Record, event *mendloopv1.EvalFailed) {
	id := ""
	for _, header := range record.Headers {
		if header.Key == "ce_id" {
			id = string(header.Value)
		}
	}
	var where []string
	for _, part := range event.GetSlice().GetConditions() {
		where = append(where, part.GetAxis()+"="+part.GetValue())
	}
	accuracy := event.GetAccuracy()
	fmt.Printf("EvalFailed id=%s run=%s slice=%s accuracy=%d/%d low=%.3f high=%.3f\n",
		id, event.GetPosition().GetRunId(), strings.Join(where, ","),
		accuracy.GetCorrect(), accuracy.GetN(), accuracy.GetLow(), accuracy.GetHigh())
}
