// What `request` takes and answers, from the contract of the API.

import type { components, paths } from "./openapi.d.ts";

export type Schemas = components["schemas"];
export type Path = keyof paths;

type Names<P extends Path> = {
  [M in keyof paths[P]]: paths[P][M] extends { responses: unknown } ? M : never;
}[keyof paths[P]];

/** `"GET" | "PUT"…`: what a path takes. */
export type Method<P extends Path> = Uppercase<Names<P> & string>;

type Operation<P extends Path, M extends string> = Lowercase<M> extends keyof paths[P] ? paths[P][Lowercase<M>] : never;
type Part<O, K extends string> = O extends { parameters: infer All } ? (All extends { [key in K]?: infer Found } ? Found : never) : never;
type Json<Content> = Content[keyof Content];

export type Body<P extends Path, M extends string> = Operation<P, M> extends { requestBody?: infer B }
  ? NonNullable<B> extends { content: infer C } ? Json<C> : undefined
  : undefined;

type Successes = 200 | 201 | 202;
type AnswerOf<O> = O extends { responses: infer R }
  ? { [S in keyof R & Successes]: R[S] extends { content: infer C } ? Json<C> : null }[keyof R & Successes]
  : never;
export type Answer<P extends Path, M extends string> = AnswerOf<Operation<P, M>>;

export interface RequestOptions<P extends Path, M extends string> {
  /** The names in the path, unescaped. */
  path?: Part<Operation<P, M>, "path">;
  query?: Part<Operation<P, M>, "query">;
  body?: Body<P, M>;
  headers?: Record<string, string>;
  /** Whether the same may be sent again after an answer that was lost. */
  retry?: boolean;
  signal?: AbortSignal;
}
