/**
 * The messages, documents and notifications of GraphNode's API server, AI server and worker.
 *
 * Written by `graphnode contract export` from the JSON Schemas beside it. These say more: lengths, ranges, and fields
 * that are required only with others. Keys in a message of the AI server may be in camelCase or snake_case; here each
 * key has its most frequent spelling.
 */

/** Means the same as leaving the field out. */
export type NotGiven = null | "";

/** A number written as a text. */
export type NumberText = `${number}`;

/** A boolean written as a number or as a text. */
export type BooleanText = 0 | 1 | "0" | "1" | "true" | "false";

/** Make a graph of everything a user has. */
export interface GraphGenerationRequestPayload {
  /** Whose graph it is. */
  userId: string;
  /** The input object, or a prefix that ends in `/`. */
  s3Key: string;
  /** Where the input is, if not in the payload bucket. */
  bucket?: string | null;
  /** Whether to make a summary as well. */
  includeSummary?: boolean | null;
  /** The summary's language. */
  summaryLanguage?: string | null;
  /** The language of names and keywords. */
  language?: string | null;
  /** What the input objects are. */
  inputType?: string | null;
  /** The fewest clusters to make. */
  minClusters?: number | null;
  /** The most clusters to make: no fewer than `minClusters`. */
  maxClusters?: number | null;
  /** More input objects. */
  extraS3Keys?: string[] | null;
}

/** Make a graph of everything a user has. */
export interface GraphGenerationRequestMessage {
  /** The type of the message. */
  taskType: "GRAPH_GENERATION_REQUEST";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. */
  timestamp: string;
  payload: GraphGenerationRequestPayload;
}

/** Summarize a user's graph. */
export interface GraphSummaryRequestPayload {
  /** Whose graph it is. */
  userId: string;
  /** The graph's document. */
  graphS3Key: string;
  /** Where the documents are, if not in the payload bucket. */
  bucket?: string | null;
  /** The graph's embeddings. */
  vectorDbS3Key?: string | null;
  /** The summary's language. */
  language?: string | null;
}

/** Summarize a user's graph. */
export interface GraphSummaryRequestMessage {
  /** The type of the message. */
  taskType: "GRAPH_SUMMARY_REQUEST";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. */
  timestamp: string;
  payload: GraphSummaryRequestPayload;
}

/** Place new sources in a user's graph. */
export interface AddNodeRequestPayload {
  /** Whose graph it is. */
  userId: string;
  /** The input object, or a prefix that ends in `/`. */
  s3Key: string;
  /** Where the input is, if not in the payload bucket. */
  bucket?: string | null;
  /** What the input objects are. */
  inputType?: string | null;
  /** The language of names and keywords. */
  language?: string | null;
}

/** Place new sources in a user's graph. */
export interface AddNodeRequestMessage {
  /** The type of the message. */
  taskType: "ADD_NODE_REQUEST";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. */
  timestamp: string;
  payload: AddNodeRequestPayload;
}

/** Analyze a file. */
export interface MicroscopeIngestRequestPayload {
  /** Whose document it is. */
  user_id: string;
  /** The file. */
  s3_key: string;
  /** The workspace that its document belongs to. */
  group_id: string;
  /** What the file is called. */
  file_name: string;
  /** Where the file is, if not in the payload bucket. */
  bucket?: string | null;
  /** The schema that the graph is to follow. */
  schema_name?: string | null;
  /** Says that the source is a file. */
  ingest_mode?: "raw_file";
  /** Which half of the document this is, if it is sent in halves. */
  block_mode?: boolean | null;
  /** Whether each block is to have a micro graph: true in the block half. */
  generate_micro_graphs?: boolean | null;
  /** What kind of file it is. */
  type?: string | null;
  /** Anything else about it. */
  metadata?: Record<string, unknown> | null;
}

/** Analyze a file. */
export interface MicroscopeIngestRequestMessage {
  /** The type of the message. */
  taskType: "MICROSCOPE_INGEST_REQUEST";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. */
  timestamp: string;
  payload: MicroscopeIngestRequestPayload;
}

/** Analyze a note or a conversation that is a node of the user's graph. */
export interface MicroscopeIngestFromNodeRequestPayload {
  /** Whose document it is. */
  user_id: string;
  /** The node's original ID. */
  node_id: string;
  /** What the node is. */
  node_type: "conversation" | "note";
  /** The workspace that its document belongs to. */
  group_id: string;
  /** The schema that the graph is to follow. */
  schema_name?: string | null;
  /** The language of the graph. */
  language?: string | null;
  /** Says that the source is a node. */
  ingest_mode?: "from_graphnode";
  /** Which half of the document this is, if it is sent in halves. */
  block_mode?: boolean | null;
  /** Whether each block is to have a micro graph: true in the block half. */
  generate_micro_graphs?: boolean | null;
}

/** Analyze a note or a conversation that is a node of the user's graph. */
export interface MicroscopeIngestFromNodeRequestMessage {
  /** The type of the message. */
  taskType: "MICROSCOPE_INGEST_FROM_NODE_REQUEST";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. */
  timestamp: string;
  payload: MicroscopeIngestFromNodeRequestPayload;
}

/** The AI server made a graph of everything a user has, or failed to. */
export interface GraphGenerationResultPayload {
  /** How the task ended. */
  status: "COMPLETED" | "FAILED";
  /** On FAILED, the text for the user's app. Beside COMPLETED, a partial failure: still a success. */
  error?: string | NotGiven;
  /** Whose graph it is. */
  userId: string;
  /** The graph document. Required when COMPLETED. */
  resultS3Key?: string | NotGiven;
  /** The features document: the nodes' embeddings. */
  featuresS3Key?: string | NotGiven;
  /** Whether a summary was made as well. */
  summaryIncluded?: boolean | BooleanText | "null" | NotGiven;
  /** The summary document. */
  summaryS3Key?: string | NotGiven;
}

/** The AI server made a graph of everything a user has, or failed to. */
export interface GraphGenerationResultMessage {
  /** The type of the message. */
  taskType: "GRAPH_GENERATION_RESULT";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. If it is not given, it is SQS's SentTimestamp. */
  timestamp?: string | NotGiven;
  payload: GraphGenerationResultPayload;
}

/** How far the AI server is with a graph. */
export interface GraphGenerationProgressPayload {
  /** Whose graph it is. */
  userId: string;
  /**
   * What the AI server is doing, in its own words. Without a stage, or without a number of percents, the message     is
   * ignored.
   */
  currentStage?: string | NotGiven;
  /** How much is done, 0 to 100. It is rounded down, and moved into these bounds. */
  progressPercent?: number | NumberText | "null" | NotGiven;
  /** How long it will take from now, in seconds. Less than 0 is 0. */
  etaSeconds?: number | NumberText | "null" | NotGiven;
}

/** How far the AI server is with a graph. */
export interface GraphGenerationProgressMessage {
  /** The type of the message. */
  taskType: "GRAPH_GENERATION_PROGRESS";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. If it is not given, it is SQS's SentTimestamp. */
  timestamp?: string | NotGiven;
  payload: GraphGenerationProgressPayload;
}

/** The AI server summarized a user's graph, or failed to. */
export interface GraphSummaryResultPayload {
  /** How the task ended. */
  status: "COMPLETED" | "FAILED";
  /** On FAILED, the text for the user's app. Beside COMPLETED, a partial failure: still a success. */
  error?: string | NotGiven;
  /** Whose graph it is. */
  userId: string;
  /** The summary document. Required when COMPLETED. */
  summaryS3Key?: string | NotGiven;
}

/** The AI server summarized a user's graph, or failed to. */
export interface GraphSummaryResultMessage {
  /** The type of the message. */
  taskType: "GRAPH_SUMMARY_RESULT";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. If it is not given, it is SQS's SentTimestamp. */
  timestamp?: string | NotGiven;
  payload: GraphSummaryResultPayload;
}

/** The AI server placed new sources in a user's graph; `error` beside COMPLETED is a partial failure. */
export interface AddNodeResultPayload {
  /** How the task ended. */
  status: "COMPLETED" | "FAILED";
  /** On FAILED, the text for the user's app. Beside COMPLETED, a partial failure: still a success. */
  error?: string | NotGiven;
  /** Whose graph it is. */
  userId: string;
  /** The add-node batch. Required when COMPLETED. */
  resultS3Key?: string | NotGiven;
}

/** The AI server placed new sources in a user's graph; `error` beside COMPLETED is a partial failure. */
export interface AddNodeResultMessage {
  /** The type of the message. */
  taskType: "ADD_NODE_RESULT";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. If it is not given, it is SQS's SentTimestamp. */
  timestamp?: string | NotGiven;
  payload: AddNodeResultPayload;
}

/** The AI server analyzed one document, or failed to. */
export interface MicroscopeIngestResultPayload {
  /** How the task ended. */
  status: "COMPLETED" | "FAILED";
  /** On FAILED, the text for the user's app. Beside COMPLETED, a partial failure: still a success. */
  error?: string | NotGiven;
  /** Whose document it is. May be missing: the task ID names the user. */
  userId?: string | NotGiven;
  /** The workspace. May be missing: the document's row names it. */
  groupId?: string | NotGiven;
  /** What the document was made of. */
  sourceId?: string | NotGiven;
  /** How many chunks there are. */
  chunks_count?: number | NumberText | "null" | NotGiven;
  /** The schema that the graph follows. */
  schema_name?: string | NotGiven;
  /** Anything the AI server counted: stored unchanged. */
  ingest_stats?: unknown | NotGiven;
  /** The microscope's standardized document. It may be the block graph: the task ID or the content tells. */
  standardized_s3_key?: string | NotGiven;
  /** The microscope's block graph. It may be the standardized document: the task ID or the content tells. */
  block_graph_s3_key?: string | NotGiven;
  /** Where the document's images are: a prefix of S3 keys. */
  images_s3_prefix?: string | NotGiven;
}

/** The AI server analyzed one document, or failed to. */
export interface MicroscopeIngestResultMessage {
  /** The type of the message. */
  taskType: "MICROSCOPE_INGEST_RESULT";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. If it is not given, it is SQS's SentTimestamp. */
  timestamp?: string | NotGiven;
  payload: MicroscopeIngestResultPayload;
}

/** The AI server analyzed one document, or failed to. */
export interface MicroscopeIngestFromNodeResultMessage {
  /** The type of the message. */
  taskType: "MICROSCOPE_INGEST_FROM_NODE_RESULT";
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When the producer sent it: ISO 8601. Without a zone it is UTC. If it is not given, it is SQS's SentTimestamp. */
  timestamp?: string | NotGiven;
  payload: MicroscopeIngestResultPayload;
}

/** A cluster, as the document's metadata describes it. */
export interface GraphCluster {
  /** Its name. */
  name?: string | NotGiven;
  /** What it is about, in a sentence. */
  description?: string | NotGiven;
  /** What it is about, in words. */
  key_themes?: string[] | NotGiven;
}

/** A connection between two nodes. `confidence` is a word or a number. */
export interface GraphEdge {
  /** The `id` of a node. If there is no such node, -1 for example, the edge is dropped. */
  source: number | NumberText;
  /** The `id` of another node. */
  target: number | NumberText;
  /** How close the two are, 0 to 1. */
  weight?: number | NumberText | "null" | NotGiven;
  /** Whether both are in one cluster. Missing: the worker looks it up. */
  is_intra_cluster?: boolean | BooleanText | "null" | NotGiven;
  /** `high` makes the edge `hard`; any other word, and any number, an `insight`. */
  confidence?: unknown;
  /** How the two relate. */
  relation?: string | NotGiven;
}

/** A whole graph, as it is in S3. `nodes` is required: without it, the user's graph would be emptied. */
export interface GraphFile {
  /** The nodes. May be empty. Each needs `id` and `orig_id`. */
  nodes: GraphNode[];
  /** The edges. Self-loops, repeated ones and those to unknown nodes are dropped. */
  edges?: GraphEdge[] | NotGiven;
  /** Denser parts of the clusters. */
  subclusters?: GraphSubcluster[] | NotGiven;
  /** How the graph was made. Its `clusters` describes the clusters; the rest is stored unchanged. */
  metadata?: GraphMetadata | NotGiven;
}

/** How the graph was made. Everything but `clusters` is stored unchanged. */
export interface GraphMetadata {
  /** The clusters by their ID. A number is a count. Older files have an array of clusters. */
  clusters?: Record<string, GraphCluster | number | NotGiven> | ListedClusters | ListedCluster[] | null | "" | false | 0 | [] | Record<string, never>;
  /** When the AI server made it: ISO 8601, or seconds since 1970. */
  generated_at?: unknown;
  [field: string]: unknown;
}

/** A conversation, note, page or file. */
export interface GraphNode {
  /** Its number in the graph, from 0. */
  id: number | NumberText;
  /** The source conversation, note, page or file. The AI server's prefixes are removed. */
  orig_id: string;
  /** The cluster it belongs to. */
  cluster_id?: string | number | NotGiven;
  /** That cluster's name. */
  cluster_name?: string | NotGiven;
  /** How sure the AI server is of the cluster, 0 to 1. */
  cluster_confidence?: number | NumberText | "null" | NotGiven;
  /** What it is about: `{term, score}`, `[term, score]`, or the term alone. */
  keywords?: (Record<string, unknown> | [string, number | NumberText | "null" | null] | string)[] | NotGiven;
  /** Read where `keywords` is empty. */
  top_keywords?: (Record<string, unknown> | [string, number | NumberText | "null" | null] | string)[] | NotGiven;
  /** `chat`, `markdown`, `notion`, `file`, or a raw format such as `pdf`. Missing: as the ID says, else a chat. */
  source_type?: string | NotGiven;
  /** When it is from: ISO 8601, or seconds since 1970. */
  timestamp?: string | number | NotGiven;
  /** When its source was made; 0: unknown. Also read where neither `timestamp` nor `update_time` is given. */
  create_time?: string | number | NotGiven;
  /** When its source was last changed; 0: unknown. Also read where `timestamp` is not given. */
  update_time?: string | number | NotGiven;
  /** How many sections its source has. */
  num_sections?: number | NumberText | "null" | NotGiven;
  /** How many messages its source has. */
  num_messages?: number | NumberText | "null" | NotGiven;
  /** Its title. */
  title?: string | NotGiven;
  /** A short name for pictures of the graph. */
  label?: string | NotGiven;
  /** What it says, in a few sentences. */
  summary?: string | NotGiven;
  /** Anything else about it: stored unchanged, with the raw format of a file as `ai_raw_source_type`. */
  metadata?: Record<string, unknown> | NotGiven;
}

/** A dense part of a cluster. */
export interface GraphSubcluster {
  /** The AI server's key for it. */
  id: string | number;
  /** The cluster it is a part of. */
  cluster_id?: string | number | NotGiven;
  /** The `id`s of its nodes. Those of no node, and null, are dropped. */
  node_ids?: (number | NumberText | "null" | null)[] | NotGiven;
  /** The `id` of the node that stands for it. If it is none of its nodes, -1 for example, the first one does. */
  representative_node_id?: number | NumberText | "null" | NotGiven;
  /** How closely its nodes are connected, 0 to 1. */
  density?: number | NumberText | "null" | NotGiven;
  /** How many edges connect its nodes. */
  internal_edges?: number | NumberText | "null" | NotGiven;
  /** How well its nodes belong together. */
  cohesion_score?: number | NumberText | "null" | NotGiven;
  /** What it is about. */
  top_keywords?: unknown[] | NotGiven;
}

/** A cluster in older files, which have an array of them. */
export interface ListedCluster {
  /** Its name. */
  name?: string | NotGiven;
  /** What it is about, in a sentence. */
  description?: string | NotGiven;
  /** What it is about, in words. */
  key_themes?: string[] | NotGiven;
  /** Its ID. */
  cluster_id?: string | number | NotGiven;
  /** Its ID where `cluster_id` is not given. */
  id?: string | number | NotGiven;
}

/** The clusters in older files. */
export interface ListedClusters {
  /** The clusters. */
  clusters: ListedCluster[];
  [field: string]: unknown;
}

/** A whole graph, as it is in S3. `nodes` is required: without it, the user's graph would be emptied. */
export type GraphDocument = GraphFile;

/** The source of an embedding. */
export interface Conversation {
  /** The `orig_id` of its node. Without it, the embedding belongs to no node. */
  orig_id?: unknown;
}

/** What the AI server computed for each source. Read in pieces, by FeaturesReader. */
export interface FeaturesFile {
  /** The sources, in the order of `embeddings`. */
  conversations: Conversation[];
  /** Row i is the embedding of `conversations[i]`. All rows have one width. */
  embeddings?: ((number | NumberText | "null" | null)[] | null | "" | false | 0 | [] | Record<string, never>)[];
}

/** What the AI server computed for each source. Read in pieces, by FeaturesReader. */
export type FeaturesDocument = FeaturesFile;

/** The summary of a cluster. */
export interface SummaryCluster {
  /** The cluster's key in the graph. */
  cluster_id?: string | number | boolean | NotGiven;
  /** Its name. */
  name?: string | number | boolean | NotGiven;
  /** How many nodes it has. */
  size?: string | number | boolean | NotGiven;
  /** How closely its nodes are connected, 0 to 1. */
  density?: string | number | boolean | NotGiven;
  /** How central it is in the graph, 0 to 1. */
  centrality?: string | number | boolean | NotGiven;
  /** How recent it is. */
  recency?: string | number | boolean | NotGiven;
  /** Its most frequent keywords. */
  top_keywords?: unknown[] | NotGiven;
  /** What it is about. */
  key_themes?: unknown[] | NotGiven;
  /** What kinds of questions the user asks. */
  common_question_types?: unknown[] | NotGiven;
  /** What it says about the user. */
  insight_text?: string | number | boolean | NotGiven;
  /** Conversations that stand out. */
  notable_conversations?: unknown[] | NotGiven;
}

/** A connection between two clusters. */
export interface SummaryConnection {
  /** The key of one cluster. */
  source_cluster?: string | number | boolean | NotGiven;
  /** The key of the other cluster. */
  target_cluster?: string | number | boolean | NotGiven;
  /** How close they are, as a word or a number. */
  connection_strength?: string | number | boolean | NotGiven;
  /** The keywords they share. */
  bridge_keywords?: unknown[] | NotGiven;
  /** The connection in a sentence. */
  description?: string | number | boolean | NotGiven;
}

/** A graph's summary. */
export interface SummaryDocument {
  /** The graph as a whole. */
  overview: SummaryOverview;
  /** The clusters. */
  clusters?: SummaryCluster[] | NotGiven;
  /** Patterns across clusters. */
  patterns?: SummaryPattern[] | NotGiven;
  /** Connections between clusters. */
  connections?: SummaryConnection[] | NotGiven;
  /** What the user may want to do next. */
  recommendations?: SummaryRecommendation[] | NotGiven;
  /** When the AI server wrote it. */
  generated_at?: string | number | NotGiven;
  /** `brief`, `standard` or `detailed`. */
  detail_level?: string | NotGiven;
}

/** The graph in a few sentences. Its totals are not read: the worker counts them, and the files. */
export interface SummaryOverview {
  /** The number of files by extension. The worker replaces it by its own count. */
  file_counts_by_extension?: Record<string, unknown> | NotGiven;
  /** The time span of the sources. */
  time_span?: unknown;
  /** What the user cares about most. */
  primary_interests?: unknown[] | NotGiven;
  /** How the user talks. */
  conversation_style?: string | number | boolean | NotGiven;
  /** When the user talks most. */
  most_active_period?: string | number | boolean | NotGiven;
  /** The whole graph, in a few sentences. */
  summary_text?: string | number | boolean | NotGiven;
}

/** A pattern that recurs in the graph. */
export interface SummaryPattern {
  /** What kind of pattern it is. */
  pattern_type?: string | number | boolean | NotGiven;
  /** The pattern in a sentence. */
  description?: string | number | boolean | NotGiven;
  /** The evidence for it. */
  evidence?: unknown[] | NotGiven;
  /** How much it matters. */
  significance?: string | number | boolean | NotGiven;
}

/** Something the user may want to do next. */
export interface SummaryRecommendation {
  /** What kind of recommendation it is. */
  type?: string | number | boolean | NotGiven;
  /** The recommendation in a few words. */
  title?: string | number | boolean | NotGiven;
  /** The recommendation in a sentence. */
  description?: string | number | boolean | NotGiven;
  /** The nodes it is about. */
  related_nodes?: unknown[] | NotGiven;
  /** How urgent it is, as a word or a number. */
  priority?: string | number | boolean | NotGiven;
}

/** New sources to merge into a user's graph. */
export interface AddNodeBatch {
  /** The sources. null: there are none. */
  results: AddNodeItem[] | "null" | NotGiven;
  /** Whose graph it is for. If given, it must be the envelope's user. */
  userId?: string | NotGiven;
}

/** An edge between two nodes, new or stored. */
export interface AddNodeEdge {
  /**
   * One end: any ID that the batch gives a node, an original ID, or a stored node's integer ID (number or digits).
   * Missing: dropped.
   */
  source?: string | number | NotGiven;
  /** The other end, in the same forms. Missing: dropped. */
  target?: string | number | NotGiven;
  /** How close the two are, 0 to 1. Missing: 1 for a new edge, and a stored one keeps its weight. */
  weight?: number | NumberText | "null" | NotGiven;
  /** `hard` or `insight`. With anything else, a new edge is `hard`, and a stored one keeps its type. */
  type?: string | NotGiven;
  /** Whether both are in one cluster. */
  intraCluster?: boolean | BooleanText | NotGiven;
  /** How the two relate. Missing: a stored edge keeps it. */
  relation?: string | NotGiven;
}

/** One source of the batch. The one ID that is given tells what kind of source it is. */
export interface AddNodeItem {
  /** The source, if it is a conversation. */
  conversationId?: string | number | boolean | NotGiven;
  /** The source, if it is a note. */
  noteId?: string | number | boolean | NotGiven;
  /** The source, if it is a file. */
  fileId?: string | number | boolean | NotGiven;
  /** The nodes made of it. */
  nodes?: AddNodeNode[] | NotGiven;
  /** Their edges, among themselves and to stored nodes. */
  edges?: AddNodeEdge[] | NotGiven;
  /** The cluster the nodes go to. */
  assignedCluster?: AssignedCluster | "null" | NotGiven;
  /** Whether the AI server skipped it. Then nothing of it is stored. */
  skipped?: boolean | BooleanText | NotGiven;
  /** What failed. It is counted; nodes and edges beside it are stored. */
  error?: unknown;
}

/** A new node, or new values of a stored one. */
export interface AddNodeNode {
  /** `{userId}_{origId}`, or any text beside `origId`. Edges of the batch may refer to it. */
  id?: string | NotGiven;
  /** The source conversation, note, page or file. Read before `id`. */
  origId?: string | NotGiven;
  /** The cluster it goes to. */
  clusterId?: string | number | NotGiven;
  /** That cluster's name. */
  clusterName?: string | NotGiven;
  /** How many messages its source has. A stored number never shrinks. */
  numMessages?: number | NumberText | "null" | NotGiven;
  /** How many sections its source has. Read before `num_messages`. */
  numSections?: number | NumberText | "null" | NotGiven;
  /** Its title. */
  title?: string | NotGiven;
  /** A short name for pictures of the graph. */
  label?: string | NotGiven;
  /** What it says, in a few sentences. */
  summary?: string | NotGiven;
  /** When it is from. */
  timestamp?: string | number | NotGiven;
  /** When its source was made. Also read where neither `timestamp` nor `updatedAt` is given. */
  createdAt?: string | number | NotGiven;
  /** When its source was last changed. Also read where `timestamp` is not given. */
  updatedAt?: string | number | NotGiven;
}

/** The cluster that the nodes go to. Of a new cluster, this is the description. */
export interface AssignedCluster {
  /** Its key, stored or new. */
  clusterId?: string | number | NotGiven;
  /** How sure the AI server is, 0 to 1. */
  confidence?: number | NumberText | "null" | NotGiven;
  /** Why this cluster. It becomes the description of a new cluster. */
  reasoning?: string | NotGiven;
  /** Its name. */
  name?: string | NotGiven;
  /** What it is about. */
  themes?: string[] | NotGiven;
}

/** New sources to merge into a user's graph. */
export type AddNodeBatchDocument = AddNodeBatch;

/** The standardized graph of one chunk of a document. */
export interface Chunk {
  /** The things that it mentions. */
  nodes?: ChunkNode[] | NotGiven;
  /** Their relations. */
  edges?: ChunkEdge[] | NotGiven;
}

/** A relation between two nodes of a chunk, which it refers to by `name`. */
export interface ChunkEdge {
  /** The `name` of the node it begins at. */
  start?: string | number | boolean | NotGiven;
  /** The `name` of the node it leads to. */
  target?: string | number | boolean | NotGiven;
  /** How they relate. */
  type?: string | number | boolean | NotGiven;
  /** How they relate, in a sentence. */
  description?: string | number | boolean | NotGiven;
  /** The chunk it was found in. */
  source_chunk_id?: string | number | boolean | NotGiven;
  /** The words in the chunk that show it. */
  evidence?: string | number | boolean | NotGiven;
  /** How sure the AI server is, as a word or a number. */
  confidence?: string | number | boolean | NotGiven;
}

/** A thing that a chunk mentions. */
export interface ChunkNode {
  /** Its name. Edges refer to it. */
  name?: string | number | boolean | NotGiven;
  /** What kind of thing it is. */
  type?: string | number | boolean | NotGiven;
  /** What the chunk says about it. */
  description?: string | number | boolean | NotGiven;
  /** The chunk it was found in. */
  source_chunk_id?: string | number | boolean | NotGiven;
}

/** A chunk that is the whole document. Only `nodes` tells it from any other object. */
export interface LoneChunk {
  /** The things that it mentions. */
  nodes: ChunkNode[];
  /** Their relations. */
  edges?: ChunkEdge[] | NotGiven;
}

/** The standardized graph of one chunk of a document. One chunk may stand alone. */
export type MicroscopeStandardizedDocument = Chunk[] | LoneChunk;

/** A passage of a document. Some AI builds write `id` for `block_id`: decode_block_graph renames it. */
export interface Block {
  /** Its ID in the document. Edges refer to it. Missing: the worker makes one. */
  block_id?: string | number | boolean | NotGiven;
  /** Its heading. Missing: stored as an empty text. */
  title?: string | number | boolean | NotGiven;
  /** What it says, in a sentence or two. */
  summary?: string | number | boolean | NotGiven;
  /** What it is about. */
  key_concepts?: unknown[] | NotGiven;
  /** Its place in the reading order. */
  order_index?: string | number | boolean | NotGiven;
  /** The first and the last turn of a conversation that it covers. `[]` means the same as null. */
  turn_range?: [number | NumberText, number | NumberText] | "null" | NotGiven | [];
  /** The things that it mentions, and their relations. Missing: stored without any. */
  micro_graph?: MicroGraph | "null" | NotGiven;
  /** The passage itself. */
  raw_text?: string | number | boolean | NotGiven;
  /** Its ID where `block_id` is not given. */
  id?: unknown;
}

/** A relation between two blocks, which it refers to by ID. */
export interface BlockEdge {
  /** The ID of one block. */
  source?: string | number | boolean | NotGiven;
  /** The ID of the other. */
  target?: string | number | boolean | NotGiven;
  /** `PREREQUISITE_OF`, `FOLLOWS`, `ELABORATES`, `CONTRASTS` or `PARALLEL`. */
  type?: string | number | boolean | NotGiven;
  /** How they relate, in a sentence. */
  description?: string | number | boolean | NotGiven;
  /** How sure the AI server is, as a word or a number. */
  confidence?: string | number | boolean | NotGiven;
}

/** A document as blocks that build on one another. */
export interface BlockGraph {
  /** The blocks. */
  blocks: Block[];
  /** The relations of the blocks. */
  edges?: BlockEdge[] | NotGiven;
  /** Ways to read the document, stored unchanged. */
  paths?: unknown;
  /** Why the blocks are in this order. */
  ordering_rationale?: string | number | boolean | NotGiven;
}

/** The small graph inside a block. */
export interface MicroGraph {
  /** Its nodes, stored with an `id` if they have none. */
  nodes?: unknown[] | NotGiven;
  /** Its edges, which begin at `source` or `start`: stored with `start`. */
  edges?: unknown[] | NotGiven;
}

/** A block graph inside an object. */
export interface WrappedBlockGraph {
  /** The block graph. */
  block_graph: BlockGraph;
}

/** A document as blocks that build on one another. */
export type MicroscopeBlockGraphDocument = WrappedBlockGraph | BlockGraph;

/** The request for a graph could not be published. Stored only, not pushed. */
export interface GraphRequestFailed {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** Why, in words for the user. */
  error: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The request for a graph could not be published. Stored only, not pushed. */
export interface GraphGenerationRequestFailedNotification {
  type: "GRAPH_GENERATION_REQUEST_FAILED";
  payload: GraphRequestFailed;
}

/** The request for a summary could not be published. Stored only, not pushed. */
export interface SummaryRequestFailed {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** Why, in words for the user. */
  error: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The request for a summary could not be published. Stored only, not pushed. */
export interface GraphSummaryRequestFailedNotification {
  type: "GRAPH_SUMMARY_REQUEST_FAILED";
  payload: SummaryRequestFailed;
}

/** The request to add new sources could not be published. Stored only, not pushed. */
export interface NodesRequestFailed {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** Why, in words for the user. */
  error: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The request to add new sources could not be published. Stored only, not pushed. */
export interface AddConversationRequestFailedNotification {
  type: "ADD_CONVERSATION_REQUEST_FAILED";
  payload: NodesRequestFailed;
}

/** The request for a microscope document, or for a half, could not be published. Stored only, not pushed. */
export interface DocumentRequestFailed {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** Why, in words for the user. */
  error: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The request for a microscope document, or for a half, could not be published. Stored only, not pushed. */
export interface MicroscopeIngestRequestFailedNotification {
  type: "MICROSCOPE_INGEST_REQUEST_FAILED";
  payload: DocumentRequestFailed;
}

/** A graph was requested. Stored only, not pushed. */
export interface GraphRequested {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** A graph was requested. Stored only, not pushed. */
export interface GraphGenerationRequestedNotification {
  type: "GRAPH_GENERATION_REQUESTED";
  payload: GraphRequested;
}

/** A summary was requested. Stored only, not pushed. */
export interface SummaryRequested {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** A summary was requested. Stored only, not pushed. */
export interface GraphSummaryRequestedNotification {
  type: "GRAPH_SUMMARY_REQUESTED";
  payload: SummaryRequested;
}

/** New sources are to be added to the user's graph. Stored only, not pushed. */
export interface NodesRequested {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** New sources are to be added to the user's graph. Stored only, not pushed. */
export interface AddConversationRequestedNotification {
  type: "ADD_CONVERSATION_REQUESTED";
  payload: NodesRequested;
}

/** A microscope document was requested: one for both halves. Stored only, not pushed. */
export interface DocumentRequested {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** A microscope document was requested: one for both halves. Stored only, not pushed. */
export interface MicroscopeIngestRequestedNotification {
  type: "MICROSCOPE_INGEST_REQUESTED";
  payload: DocumentRequested;
}

/** The user has a new graph. */
export interface GraphCompleted {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** How many nodes it has. */
  nodeCount: number;
  /** How many edges it has. */
  edgeCount: number;
  /** How many clusters it has. */
  clusterCount: number;
  /** Whether its summary came with it. */
  summaryIncluded: boolean;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The user has a new graph. */
export interface GraphGenerationCompletedNotification {
  type: "GRAPH_GENERATION_COMPLETED";
  payload: GraphCompleted;
}

/** The graph generation failed. The user keeps the graph they had. */
export interface GraphFailed {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** Why, in the AI server's words. */
  error: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The graph generation failed. The user keeps the graph they had. */
export interface GraphGenerationFailedNotification {
  type: "GRAPH_GENERATION_FAILED";
  payload: GraphFailed;
}

/** How far the AI server is with a graph, by its own clock. Stored only, not pushed. */
export interface GraphProgress {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** What the AI server is doing, in its own words. */
  currentStage: string;
  /** How much is done, 0 to 100. */
  progressPercent?: number;
  /** How long it will take after `timestamp`, in seconds. */
  etaSeconds?: number;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** How far the AI server is with a graph, by its own clock. Stored only, not pushed. */
export interface GraphGenerationProgressUpdatedNotification {
  type: "GRAPH_GENERATION_PROGRESS_UPDATED";
  payload: GraphProgress;
}

/** The user's graph has a new summary. */
export interface SummaryCompleted {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** `brief`, `standard` or `detailed`. */
  detailLevel?: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The user's graph has a new summary. */
export interface GraphSummaryCompletedNotification {
  type: "GRAPH_SUMMARY_COMPLETED";
  payload: SummaryCompleted;
}

/** The summary failed. The user keeps the summary they had. */
export interface SummaryFailed {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** Why, in the AI server's words. */
  error: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The summary failed. The user keeps the summary they had. */
export interface GraphSummaryFailedNotification {
  type: "GRAPH_SUMMARY_FAILED";
  payload: SummaryFailed;
}

/** New sources are in the user's graph. */
export interface NodesCompleted {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** How many nodes are new. */
  nodeCount: number;
  /** How many edges are new. */
  edgeCount: number;
  /** Why a part of the sources failed, if any did. */
  error?: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** New sources are in the user's graph. */
export interface AddConversationCompletedNotification {
  type: "ADD_CONVERSATION_COMPLETED";
  payload: NodesCompleted;
}

/** Nothing was added to the user's graph. */
export interface NodesFailed {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** Why, in the AI server's words. */
  error: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** Nothing was added to the user's graph. */
export interface AddConversationFailedNotification {
  type: "ADD_CONVERSATION_FAILED";
  payload: NodesFailed;
}

/** A document of a workspace is completed. Stored only, not pushed. */
export interface DocumentCompleted {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** The document: its task ID without the suffix of a half. */
  documentId: string;
  /** Its workspace. */
  groupId?: string;
  /** What it was made of. */
  sourceId?: string;
  /** How many chunks it has. */
  chunksCount?: number;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** A document of a workspace is completed. Stored only, not pushed. */
export interface MicroscopeDocumentCompletedNotification {
  type: "MICROSCOPE_DOCUMENT_COMPLETED";
  payload: DocumentCompleted;
}

/** A document of a workspace failed. Stored only, not pushed. */
export interface DocumentFailed {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** The document: its task ID without the suffix of a half. */
  documentId: string;
  /** Its workspace. */
  groupId?: string;
  /** What it was made of. */
  sourceId?: string;
  /** Why, in the AI server's words. */
  error?: string;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** A document of a workspace failed. Stored only, not pushed. */
export interface MicroscopeDocumentFailedNotification {
  type: "MICROSCOPE_DOCUMENT_FAILED";
  payload: DocumentFailed;
}

/** The last document of a workspace has ended. */
export interface WorkspaceCompleted {
  /** The correlation ID, unique per task. */
  taskId: string;
  /** The workspace. */
  groupId: string;
  /** Its name, or its ID if it has no name. */
  workspaceName: string;
  /** How many of its documents are completed. */
  completedCount: number;
  /** How many of its documents failed. */
  failedCount: number;
  /** When it happened: ISO 8601, in UTC. Of progress, when the AI server said so. */
  timestamp: string;
}

/** The last document of a workspace has ended. */
export interface MicroscopeWorkspaceCompletedNotification {
  type: "MICROSCOPE_WORKSPACE_COMPLETED";
  payload: WorkspaceCompleted;
}

export type RequestMessage =
  | GraphGenerationRequestMessage
  | GraphSummaryRequestMessage
  | AddNodeRequestMessage
  | MicroscopeIngestRequestMessage
  | MicroscopeIngestFromNodeRequestMessage;

export type ResultMessage =
  | GraphGenerationResultMessage
  | GraphGenerationProgressMessage
  | GraphSummaryResultMessage
  | AddNodeResultMessage
  | MicroscopeIngestResultMessage
  | MicroscopeIngestFromNodeResultMessage;

export type Notification =
  | GraphGenerationRequestFailedNotification
  | GraphSummaryRequestFailedNotification
  | AddConversationRequestFailedNotification
  | MicroscopeIngestRequestFailedNotification
  | GraphGenerationRequestedNotification
  | GraphSummaryRequestedNotification
  | AddConversationRequestedNotification
  | MicroscopeIngestRequestedNotification
  | GraphGenerationCompletedNotification
  | GraphGenerationFailedNotification
  | GraphGenerationProgressUpdatedNotification
  | GraphSummaryCompletedNotification
  | GraphSummaryFailedNotification
  | AddConversationCompletedNotification
  | AddConversationFailedNotification
  | MicroscopeDocumentCompletedNotification
  | MicroscopeDocumentFailedNotification
  | MicroscopeWorkspaceCompletedNotification;
