// How an API server may use the types. Lines that tsc must refuse are marked.
import type {
  GraphDocument,
  GraphGenerationRequestMessage,
  GraphGenerationResultMessage,
  NotGiven,
  Notification,
  NumberText,
  RequestMessage,
  ResultMessage,
} from "../graphnode";

export const request: GraphGenerationRequestMessage = {
  taskType: "GRAPH_GENERATION_REQUEST",
  taskId: "task_graph_ada_01KS5VASM0TJW13004M3R3FV5P",
  timestamp: new Date().toISOString(),
  payload: { userId: "ada", s3Key: "input/ada/", includeSummary: true },
};

// @ts-expect-error There is no such request.
export const unknown: RequestMessage = { ...request, taskType: "VIDEO_REQUEST" };

// @ts-expect-error A request names its input.
export const incomplete: RequestMessage = { ...request, payload: { userId: "ada" } };

// @ts-expect-error A status is COMPLETED or FAILED.
export const status: GraphGenerationResultMessage["payload"]["status"] = "DONE";

export function text(notification: Notification): string {
  switch (notification.type) {
    case "GRAPH_GENERATION_COMPLETED":
      return `${notification.payload.nodeCount.toFixed()} nodes`;
    case "GRAPH_GENERATION_FAILED":
    case "GRAPH_SUMMARY_FAILED":
      // @ts-expect-error A failure has no nodes.
      return notification.payload.error ?? notification.payload.nodeCount;
    default:
      return notification.payload.taskId;
  }
}

export function number(value: number | NumberText | "null" | NotGiven | undefined): number | undefined {
  return value === undefined || value === null || value === "" || value === "null" ? undefined : Number(value);
}

export function weights(graph: GraphDocument): (number | undefined)[] {
  // @ts-expect-error Edges may be null or "": not given.
  graph.edges.map((edge) => edge.weight);
  return (graph.edges || []).map((edge) => number(edge.weight));
}

export function progress(message: ResultMessage): number | undefined {
  return message.taskType === "GRAPH_GENERATION_PROGRESS" ? number(message.payload.progressPercent) : undefined;
}
